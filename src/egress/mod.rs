//! The forward proxy: `CONNECT` tunnels and absolute-form requests, with a cap on connections for
//! each host.

pub mod hosts;
pub mod shared;
