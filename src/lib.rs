//! weir, a Discord REST rate-limit proxy for fleets of bots.

#[cfg(feature = "io")]
pub mod admin;
pub mod clock;
pub mod config;
pub mod error;
pub mod metrics;
pub mod route;

pub use config::Config;
pub mod http1;
pub mod limit;
