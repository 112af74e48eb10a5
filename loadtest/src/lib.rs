//! A mock Discord with an oracle, and the load that drives weir against it.

pub mod client;
pub mod demo;
pub mod load;
pub mod mock;
pub mod runtime;
