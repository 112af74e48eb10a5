//! weir, a Discord REST rate-limit proxy for fleets of bots.

pub mod clock;
pub mod limit;
#[cfg(test)]
mod sim;
