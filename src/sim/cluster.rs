//! A cluster under virtual time: membership, ownership and hand-over of 2 to 9 nodes, in front of
//! one Discord. A run is one seed; a failure names it.
//!
//! ```text
//! clients ─▶ any node ─▶ owner? ─▶ here: limiter ─▶ Discord: one set of limits for each token
//!              │  ▲       └ there: relay, and on to whom that node knows, as often as may be
//!              ▼  │
//!            datagrams: delay, loss, parts ─▶ Member ─▶ Ownership ─▶ Cut ─▶ take_over, be_careful
//! ```
//!
//! Nodes join, leave, die and come back; the network falls apart and loses datagrams; all the while clients ask for a
//! third more than Discord allows. What is checked: nodes that reach each other agree within a bounded
//! time; then each identity has one owner among them; nothing moves that need not; Discord refuses
//! nothing while nothing is disturbed; nobody is forgotten. How long after each kind of disturbance
//! limits may be overstepped, and how often they were, is what [`Report`] tells.

mod discord;
mod net;
mod node;
mod report;
mod world;

pub use report::{Disturbance, Kind, Report};

/// What is done wrong on purpose, to see that it is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mutant {
    /// Nothing.
    #[default]
    None,
    /// Nobody hands anything over.
    TellsNothing,
    /// Nobody is careful with what it got.
    Careless,
}

/// One run.
pub fn run(seed: u64) -> Report {
    run_mutant(seed, Mutant::None)
}

/// One run of nodes that do something wrong.
pub fn run_mutant(seed: u64, mutant: Mutant) -> Report {
    world::World::new(seed, mutant).run()
}

#[cfg(test)]
mod tests;
