//! weir, a Discord REST rate-limit proxy for fleets of bots.

pub mod clock;
pub mod config;
pub mod error;
pub mod route;

pub use config::Config;
pub mod http1;
pub mod limit;
