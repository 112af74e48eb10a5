//! What came of a run: how long it took all to agree, what Discord refused, and when.

use super::discord::Violation;
use crate::clock::Instant;
use crate::cluster::member::cut_off_for;
use std::net::SocketAddr;
use std::time::Duration;

/// What was sent before all agreed may still count: the period of the global limit, the way to Discord
/// and back, and the window of a bucket that two nodes filled.
const AFTERMATH: Duration = Duration::from_millis(3_300);

/// What happened to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// All start at once.
    Start,
    /// One more joins.
    Join,
    /// One says that it goes.
    Leave,
    /// One dies.
    Crash,
    /// One that left or died is there again.
    Return,
    /// The network falls apart.
    Cut,
    /// It is whole again.
    Heal,
    /// Datagrams are lost.
    Loss,
}

impl Kind {
    /// What each run has in store, in an order of its own.
    pub(super) const ALL: [Self; 5] = [Self::Join, Self::Leave, Self::Crash, Self::Cut, Self::Loss];
    /// All there are.
    pub const EVERY: [Self; 8] = [
        Self::Start,
        Self::Join,
        Self::Leave,
        Self::Crash,
        Self::Return,
        Self::Cut,
        Self::Heal,
        Self::Loss,
    ];

    /// How long it may take until all agree again.
    pub const fn bound(self) -> Duration {
        match self {
            Self::Start | Self::Leave => Duration::from_secs(1),
            // Whoever meets one that remembers its earlier life hears of it with the next announcement.
            Self::Join | Self::Return => Duration::from_millis(1_500),
            // The time that is promised.
            Self::Crash => Duration::from_secs(2),
            // A part of one node may have to find out for itself that nine others are dead: 3.6 s.
            Self::Cut => cut_off_for(super::world::NODES_MAX - 1),
            // Halves announce themselves once a second, to two at a time, and each has a new generation.
            Self::Heal => Duration::from_secs(4),
            // After it has ended: whoever was declared dead is back.
            Self::Loss => Duration::from_secs(4),
        }
    }
}

/// One disturbance.
#[derive(Clone, Copy, Debug)]
pub struct Disturbance {
    /// What happened.
    pub kind: Kind,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) settled: Option<Instant>,
    pub(super) changed: Option<SocketAddr>,
}

impl Disturbance {
    /// How long it took from its end until all that reach each other agreed; `None` if never.
    pub fn took(&self) -> Option<Duration> {
        Some(self.settled?.saturating_duration_since(self.ended))
    }

    /// How long Discord's limits may have been overstepped for it.
    pub fn window(&self) -> Option<Duration> {
        Some(self.settled?.saturating_duration_since(self.began) + AFTERMATH)
    }
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The run.
    pub seed: u64,
    /// Nodes at the start.
    pub nodes: usize,
    /// What happened, in order.
    pub disturbances: Vec<Disturbance>,
    /// Requests that clients made.
    pub asked: u64,
    /// Requests that Discord served.
    pub served: u64,
    /// Requests that weir refused, since they would have waited too long.
    pub refused: u64,
    /// Requests that no node could be found for.
    pub failed: u64,
    /// Relays to nodes that could not be reached.
    pub relays_failed: u64,
    /// Refusals of Discord's while nothing was disturbed.
    pub steady: usize,
    /// Refusals within the window of each kind of disturbance.
    pub disturbed: Vec<(Kind, usize)>,
    /// Identities with no owner or two while all agreed.
    pub wrong_owners: usize,
    /// Identities that moved between two nodes of which neither came nor went.
    pub needless_moves: usize,
    /// Requests that nobody finished.
    pub left_over: usize,
    /// Bytes of gossip, with what IP and UDP put around it.
    pub bytes: u64,
    /// The same, for each node and second.
    pub bytes_per_node_and_second: f64,
    /// Bytes of state that changed hands.
    pub handed_bytes: u64,
}

impl Report {
    pub(super) fn new(seed: u64, nodes: usize) -> Self {
        Self {
            seed,
            nodes,
            ..Self::default()
        }
    }

    /// Sorts refusals by what may have caused them.
    pub(super) fn judge(&mut self, violations: &[Violation]) {
        for violation in violations {
            let mut cause = None;
            for (n, d) in self.disturbances.iter().enumerate() {
                let mut end = d.window().map_or(Instant::FAR, |window| d.began + window);
                // Parts share no limits until they are whole again.
                if d.kind == Kind::Cut {
                    end = self.disturbances.get(n + 1).map_or(end, |heal| heal.began);
                }
                if (d.began..end).contains(&violation.at) {
                    cause = Some(d.kind);
                }
            }
            match cause {
                None => self.steady += 1,
                Some(kind) => match self.disturbed.iter_mut().find(|(k, _)| *k == kind) {
                    Some((_, count)) => *count += 1,
                    None => self.disturbed.push((kind, 1)),
                },
            }
        }
    }

    /// What did not hold, one line each.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut expect = |holds: bool, what: String| {
            if !holds {
                complaints.push(format!("seed {}, {} nodes: {what}", self.seed, self.nodes));
            }
        };
        for d in &self.disturbances {
            let took = d.took();
            let soon = took.is_some_and(|took| took <= d.kind.bound());
            expect(soon, format!("after {:?}, agreement took {took:?}", d.kind));
        }
        expect(
            self.steady == 0,
            format!("{} refusals while nothing was disturbed", self.steady),
        );
        expect(
            self.wrong_owners == 0,
            format!("{} identities without one owner", self.wrong_owners),
        );
        expect(
            self.needless_moves == 0,
            format!("{} identities moved for nothing", self.needless_moves),
        );
        expect(
            self.left_over == 0,
            format!("{} requests unfinished", self.left_over),
        );
        // Of three quarters that the limits allow: handing over must not stop everybody.
        expect(
            self.served * 2 > self.asked,
            format!("{} of {} served", self.served, self.asked),
        );
        complaints
    }
}
