//! Caps on connections that a fleet of proxies shares through a real Redis.
#![expect(unreachable_pub, reason = "the modules of a test are nobody else's")]

#[path = "../support/redis.rs"]
mod redis_server;

mod away;
mod dprl;
mod processes;
mod repair;
mod stage;
