//! What the person who runs weir sees of it.

pub mod log;
