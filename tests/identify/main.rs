//! The identify queue from the outside: what its port takes, and what it makes of `/gateway/bot`.

#[path = "../support/mod.rs"]
mod support;

mod bot;
mod door;
