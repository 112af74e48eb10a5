//! The identify queue with those it is for: the processes of a fleet, and twilight's own client side.

#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
mod fleet;
#[cfg(test)]
mod twilight;
