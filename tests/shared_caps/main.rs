//! Caps on connections that a fleet of proxies shares through a real Redis.
#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that fails says where; its modules are nobody else's"
)]

#[path = "../support/redis.rs"]
mod redis_server;
#[path = "../support/mod.rs"]
mod support;

mod away;
mod dprl;
mod forward;
mod processes;
mod programs;
mod repair;
mod stage;
