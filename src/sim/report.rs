//! What a run showed.

use super::discord::Tally;
use std::time::Duration;

/// What a run, or several together, showed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Clients that asked.
    pub asked: u64,
    /// Requests put on the wire.
    pub sent: u64,
    /// Requests that never came back.
    pub lost: u64,
    /// Requests that got a 200.
    pub ok: u64,
    /// Clients that the limiter refused.
    pub refused: u64,
    /// Clients that left while they waited.
    pub left: u64,
    /// 429s that clients saw.
    pub handed_429: u64,
    /// Requests that were sent after a later one of their route.
    pub overtaken: u64,
    /// Requests that change something and arrived after a later one of their route.
    pub reordered: u64,
    /// Requests that nobody would ever have sent.
    pub starved: u64,
    /// Times that something was held which was not there, and what was held in the end.
    pub leaks: u64,
    /// Times that more buckets were tracked than routes, channels and bots give.
    pub unbounded: u64,
    /// The most buckets tracked, as far as looked at.
    pub buckets_max: usize,
    /// The most requests waiting.
    pub waiting_max: usize,
    /// From the client's asking to the last sending, of each request with an answer.
    pub waits: Vec<Duration>,
    /// What the model counted.
    pub shown: Tally,
    /// The first avoidable 429.
    pub complaint: String,
    /// What happened around it before, one line an event.
    pub history: String,
}

/// How long ours and a reference let the 99th percent of requests wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// Ours no longer.
    NotWorse,
    /// Ours longer; the reference draws 429s where ours does not.
    ForTheirsDraws429s,
    /// Ours longer; the reference lets requests that change something overtake each other, as ours
    /// does not.
    ForTheirsReorders,
    /// Ours longer, and there is no excuse.
    Worse,
}

/// What counts as no longer: the noise of the 99th percent of a few thousand requests.
const TOLERANCE: f64 = 1.01;
/// And one delay of the network.
const GRAIN: Duration = Duration::from_millis(25);

/// A reference may wait less if, of 1,000 of its requests, more than so many draw 429s (or overtake)
/// beyond ours: fewer do not move the 99th percent.
const EXCUSE_PERMILLE: u64 = 10;

impl Report {
    /// Compares our waiting time with a reference's.
    pub fn against(&self, reference: &Self) -> Comparison {
        if self.wait(99) <= reference.wait(99).mul_f64(TOLERANCE) + GRAIN {
            Comparison::NotWorse
        } else if reference.bought(reference.shown.limited(), self.shown.limited()) {
            Comparison::ForTheirsDraws429s
        } else if reference.bought(reference.reordered, self.reordered) {
            Comparison::ForTheirsReorders
        } else {
            Comparison::Worse
        }
    }

    /// Whether a limiter did wrong so much oftener than ours that it can buy waiting time.
    fn bought(&self, wrong: u64, ours: u64) -> bool {
        wrong.saturating_sub(ours) * 1_000 > self.sent * EXCUSE_PERMILLE
    }

    /// Adds what another run showed.
    pub fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.sent += other.sent;
        self.lost += other.lost;
        self.ok += other.ok;
        self.refused += other.refused;
        self.left += other.left;
        self.handed_429 += other.handed_429;
        self.overtaken += other.overtaken;
        self.reordered += other.reordered;
        self.starved += other.starved;
        self.leaks += other.leaks;
        self.unbounded += other.unbounded;
        self.buckets_max = self.buckets_max.max(other.buckets_max);
        self.waiting_max = self.waiting_max.max(other.waiting_max);
        self.waits.extend_from_slice(&other.waits);
        self.shown.add(&other.shown);
        if self.complaint.is_empty() {
            self.complaint.clone_from(&other.complaint);
            self.history.clone_from(&other.history);
        }
    }

    /// The wait that `percent` of all requests did not exceed.
    pub fn wait(&self, percent: usize) -> Duration {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        let place = (waits.len() * percent).div_ceil(100).max(1) - 1;
        waits.get(place).copied().unwrap_or_default()
    }
}
