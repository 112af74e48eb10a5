//! Whether all workers still turn, for a service manager's watchdog.
//!
//! A worker that hangs (a bug, a device that never answers) refuses nobody and serves nobody: its part
//! of the connections waits for ever, and no panic ends the process. So whoever watches nudges each
//! worker now and then; one that has not turned since the last time is stuck.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Handle;
use crate::process::Process;

/// Feels whether the workers of a [`Handle`] turn.
pub struct Pulse {
    process: Arc<Process>,
    /// The turns of each worker at the last look.
    seen: Vec<u64>,
}

impl Pulse {
    pub(super) fn of(handle: &Handle) -> Self {
        let process = handle.process.clone();
        let mut pulse = Self {
            seen: Vec::new(),
            process,
        };
        pulse.look();
        pulse
    }

    /// Whether every worker has turned since the last call, and wakes each so that it turns until the
    /// next. True while weir ends: a worker that has ended turns no more.
    pub fn beats(&mut self) -> bool {
        let before = std::mem::take(&mut self.seen);
        self.look();
        let stuck = before.iter().zip(&self.seen).any(|(a, b)| a == b);
        !stuck || self.process.is_draining()
    }

    fn look(&mut self) {
        let turns = self.process.turns.iter();
        self.seen = turns.map(|turns| turns.load(Ordering::Relaxed)).collect();
        for worker in 0..self.seen.len() {
            self.process.mesh.nudge(worker);
        }
    }
}
