//! A load generator: closed loop for saturation, open loop for latency.
//!
//! One thread drives all connections by epoll. In the open loop every request has an intended time
//! on a fixed schedule, and its latency counts from there, also when no connection was free: what
//! a stalled server costs those who wait is not left out (coordinated omission). In the closed loop
//! each connection sends its next request when it has its answer.

mod engine;
mod plan;
pub mod process;
mod report;
mod stream;

pub use plan::{Plan, Recipe};
pub use report::LoadReport;

use std::io;
use std::time::Duration;

use crate::client::Target;

/// What load to make.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// Whom to load.
    pub target: Target,
    /// Connections held open.
    pub connections: usize,
    /// Requests under way at most, which take turns on all connections. `None`: as many as there are
    /// connections, and a request takes the connection that was used last.
    pub under_way: Option<usize>,
    /// Requests a second in the open loop; `None` for the closed loop.
    pub rate: Option<f64>,
    /// How long is measured.
    pub duration: Duration,
    /// How long is loaded before, without being measured.
    pub warmup: Duration,
    /// What is sent.
    pub plan: Plan,
}

/// A moment of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// The warm-up is over.
    Begin,
    /// The measured time is over; answers that are still due are awaited.
    End,
}

/// Makes load and tells what came of it. Blocks for warm-up and duration.
///
/// # Errors
/// When the target is no loopback address (nobody aims this at Discord by mistake), when the first
/// connections cannot be made, or when epoll fails.
pub fn run(config: &LoadConfig) -> io::Result<LoadReport> {
    run_watched(config, |_| ())
}

/// As [`run`], and calls `at` at the two ends of the measured time, so that others can be measured
/// over the same time. The load stands still meanwhile.
///
/// # Errors
/// As [`run`].
pub fn run_watched(config: &LoadConfig, at: impl FnMut(Moment)) -> io::Result<LoadReport> {
    if !config.target.addr.ip().is_loopback() {
        let text = format!("{} is no loopback address", config.target.addr);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    engine::Engine::connect(config)?.run(at)
}
