//! The identify queue from the outside: what its port takes, and what it makes of `/gateway/bot`.

#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
mod bot;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod door;
#[cfg(test)]
mod unreached;
