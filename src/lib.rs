//! weir, a Discord REST rate-limit proxy for fleets of bots.

pub mod clock;
pub mod config;
pub mod error;
pub mod metrics;
pub mod route;

pub use config::Config;
