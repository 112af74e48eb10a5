//! Caps on connections that a fleet of proxies shares through a real Redis.
#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that fails says where; its modules are nobody else's"
)]

#[path = "../support/redis.rs"]
mod redis_server;

mod away;
mod dprl;
mod processes;
mod repair;
mod stage;
