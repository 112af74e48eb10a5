//! Who is in the cluster: SWIM as a state machine, with time as an argument and lots drawn from a
//! seed.
//!
//! ```text
//! datagram, deadline, seeds, suspicion, leave ──▶ Member::handle ──▶ poll_output: Send, Event
//!                                                     └ foca: probes, gossip, suspicion
//! ```
//!
//! Each node probes one other every [`PROBE_PERIOD`]. Whoever does not answer, nor by way of three
//! others, is suspected, and is down [`SUSPECT_FOR`] later unless it objects. With up to nine nodes a
//! node that died is known by all to be within 2 s. A node that was declared down and lives hears of it and comes back as its own next
//! [generation](Node::generation).
//!
//! Around foca stand: seeds, addresses to announce ourselves to again and again while we do not see
//! them, which heals what SWIM alone cannot (a node that is alone, two halves that forgot each other);
//! announcements to members until one of them has answered our new generation, which foca tells them
//! of once, in datagrams that may be lost; a cap on members; and nodes that are
//! [passed over](Input::Suspect) for a moment because a relay to them failed, whatever gossip says.
//!
//! **Cost.** A node sends and gets some 10 probes and answers a second, of 60 to 150 bytes each, however
//! many nodes there are; a change is told ten times by each node. Nothing of it is on the path of a
//! request.

mod guard;
mod node;
mod timers;

pub use guard::Refused;
pub use node::Node;

use crate::clock::Instant;
use foca::{Config, Foca, NoCustomBroadcast, Notification, PeriodicParams, PostcardCodec, State};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;
use timers::Timers;

/// How often each node probes another: nine nodes then probe each of them five times a second.
pub const PROBE_PERIOD: Duration = Duration::from_millis(200);
/// How long an answer to a probe may take before others are asked to probe: far more than a LAN's
/// round trip and a busy thread's pause.
pub const PROBE_RTT: Duration = Duration::from_millis(80);
/// How long a suspected node may object before it is down: room for four of its own probes, and for
/// a thread that was not scheduled for half a second.
pub const SUSPECT_FOR: Duration = Duration::from_millis(800);
/// How often what changed is gossiped.
const GOSSIP_PERIOD: Duration = Duration::from_millis(100);
/// How often nodes that are down are announced to: a healed partition is noticed so soon.
const ANNOUNCE_DOWN_PERIOD: Duration = Duration::from_secs(1);
/// How often another is asked for all members it knows.
const ANNOUNCE_PERIOD: Duration = Duration::from_secs(10);
/// How long a node that is down is remembered; seeds are announced to for ever.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// How often seeds that are no members are announced to.
const SEEDS_PERIOD: Duration = Duration::from_secs(10);
/// The same while there is no other member.
const SEEDS_PERIOD_ALONE: Duration = Duration::from_secs(1);
/// The same, and to members, while none of them has answered this node's new generation: as often as
/// it would probe them.
const SEEDS_PERIOD_UNHEARD: Duration = PROBE_PERIOD;
/// How long a node is passed over after a relay to it failed: until SWIM has found out for itself.
pub const PASS_OVER_FOR: Duration = Duration::from_secs(2);
/// Nodes known at a time, those down for less than ten minutes included: a table of owners has one
/// byte for each slot.
pub const NODES_MAX: usize = 255;
/// Seeds that are announced to: more than any list that a person writes.
pub const SEEDS_MAX: usize = 64;
/// The largest datagram: what fits into an Ethernet frame with room for the envelope.
pub const DATAGRAM_BYTES_MAX: usize = 1_200;

const THREE: NonZeroUsize = NonZeroUsize::new(3).unwrap();
const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();
const ONE: NonZeroUsize = NonZeroUsize::new(1).unwrap();

const _: () = assert!(PROBE_RTT.as_millis() * 2 < PROBE_PERIOD.as_millis());

/// How long it takes at most until a node knows that so many others are down whom a cut network keeps from
/// it, if it is cut off alone: whoever is with it probes, too, and tells it.
///
/// It probes one member a period, each once in a round, and draws the next round's order. Slowest to be found
/// is who had just answered when the network fell apart, and is the last one of the next round. All others
/// come first, one a period; they may come once more, but only until they are down, a period and
/// [`SUSPECT_FOR`] after the last of them was probed; then it is probed, and down as long after.
pub const fn cut_off_for(others: u32) -> Duration {
    let found = PROBE_PERIOD.as_millis() + SUSPECT_FOR.as_millis();
    let round = PROBE_PERIOD.as_millis() * others.saturating_sub(1) as u128;
    Duration::from_millis((round + 2 * found) as u64)
}

/// What happens to a member.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A datagram came. `from`: it was not authenticated, so its sender must be who it says.
    Datagram {
        /// The sender's address, unless the envelope proved who it is.
        from: Option<SocketAddr>,
        /// What stood in the envelope.
        bytes: &'a [u8],
    },
    /// [`Member::next_deadline`] has come.
    Deadline,
    /// Addresses where members may be found, in place of the ones before.
    Seeds(&'a [SocketAddr]),
    /// A relay to this node failed.
    Suspect(Node),
    /// This node ends; nothing but what is polled afterwards is to be sent.
    Leave,
}

/// What a member wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send these bytes in an envelope.
    Send {
        /// To this node's cluster port.
        to: SocketAddr,
        /// At most [`DATAGRAM_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// Something happened.
    Event(Event),
}

/// What happened, for the log; and [`Event::Changed`] for all others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// [`Member::live`] is not what it was.
    Changed,
    /// A node joined, or came back.
    Joined(Node),
    /// A node left in order: it said so itself.
    Left(Node),
    /// A node is down that has not said itself that it leaves: it counts as dead.
    Died(Node),
    /// A node was started anew at the address of another, or came back under a new generation.
    Renewed(Node),
    /// A node is suspected: it may be down soon.
    Suspected(Node),
    /// A node that was suspected objected, or was started anew at its address.
    Cleared(Node),
    /// There is no other member any more, or not yet.
    Alone,
    /// The others took this node for dead; it is back under a new generation.
    Rejoined(Node),
}

/// See the module's documentation.
pub struct Member {
    foca: Foca<Node, PostcardCodec, SmallRng, NoCustomBroadcast>,
    timers: Timers,
    outputs: VecDeque<Output>,
    seeds: Vec<SocketAddr>,
    seeds_at: Instant,
    touch: Touch,
    /// Members announced to so far, to go round them.
    announced: usize,
    passed_over: Vec<(Node, Instant)>,
    suspected: Vec<Node>,
    live: Vec<Node>,
    left: bool,
}

impl Member {
    /// A member that is alone. The same seed and inputs give the same outputs.
    pub fn new(now: Instant, me: Node, seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self {
            foca: Foca::new(me, config(), rng, PostcardCodec),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            seeds: Vec::new(),
            seeds_at: now,
            touch: Touch::Alone,
            announced: 0,
            passed_over: Vec::new(),
            suspected: Vec::new(),
            live: vec![me],
            left: false,
        }
    }

    /// This node, as the others know it now.
    pub const fn me(&self) -> &Node {
        self.foca.identity()
    }

    /// The nodes that share out the identities, by address, this one included until it leaves. Those
    /// that are suspected are among them, those that are passed over are not.
    pub fn live(&self) -> &[Node] {
        &self.live
    }

    /// Whether this node has said that it leaves.
    pub const fn has_left(&self) -> bool {
        self.left
    }

    /// Members that are passed over: a relay to them failed, and SWIM has them still.
    pub fn passed_over(&self) -> Vec<Node> {
        let known = self.foca.iter_members().map(|member| *member.id());
        let is_passed = |node: &Node| !self.left && !self.live.contains(node);
        known.filter(is_passed).collect()
    }

    /// Other members, suspected ones included.
    pub fn others(&self) -> usize {
        self.foca.num_members()
    }

    /// Takes an input in.
    ///
    /// # Errors
    /// A datagram that is not taken in, and why: it is to be counted.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) -> Result<(), Refused> {
        let taken = match input {
            Input::Datagram { .. } | Input::Suspect(_) if self.left => Ok(()),
            Input::Datagram { from, bytes } => self.datagram(now, from, bytes),
            Input::Deadline => {
                self.deadline(now);
                Ok(())
            }
            Input::Seeds(seeds) => {
                self.seeds.clear();
                let others = seeds
                    .iter()
                    .filter(|seed| **seed != self.foca.identity().addr);
                self.seeds.extend(others.take(SEEDS_MAX));
                self.seeds_at = now;
                Ok(())
            }
            Input::Suspect(node) => {
                self.suspect(now, node);
                Ok(())
            }
            Input::Leave => {
                self.left = true;
                self.with_foca(now, |foca, runtime| {
                    foca.set_config(farewell())?;
                    foca.leave_cluster(runtime)
                });
                Ok(())
            }
        };
        self.look(now);
        taken
    }

    /// What is to be done next; `None` when nothing is.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Deadline`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.left {
            return None;
        }
        let own = self.announces().then_some(self.seeds_at);
        let passed = self.passed_over.iter().map(|(_, until)| *until);
        self.timers
            .next()
            .into_iter()
            .chain(own)
            .chain(passed)
            .min()
    }

    fn datagram(
        &mut self,
        now: Instant,
        from: Option<SocketAddr>,
        bytes: &[u8],
    ) -> Result<(), Refused> {
        let known = self.foca.iter_membership_state();
        let speaker = guard::check(
            bytes,
            from,
            self.foca.identity(),
            known.map(|m| m.id().addr),
        )?;
        let mut result = Ok(());
        self.with_foca(now, |foca, runtime| {
            runtime.speaker = Some(speaker);
            result = foca.handle_data(bytes, runtime);
            Ok(())
        });
        result.map_err(|_| Refused::Malformed)
    }

    fn deadline(&mut self, now: Instant) {
        if self.left {
            return;
        }
        while let Some(timer) = self.timers.pop(now) {
            if !self.is_refuted(&timer) {
                self.with_foca(now, |foca, runtime| foca.handle_timer(timer, runtime));
            }
        }
        self.passed_over.retain(|(_, until)| *until > now);
        if self.seeds_at <= now && self.announces() {
            self.announce(now);
        }
    }

    /// Whether `timer` would take a member down that has objected since. foca sees so itself, but tells
    /// the member all the same that it is down, which then takes a new generation for nothing.
    fn is_refuted(&self, timer: &foca::Timer<Node>) -> bool {
        let foca::Timer::ChangeSuspectToDown {
            member_id,
            incarnation,
            ..
        } = timer
        else {
            return false;
        };
        let mut known = self.foca.iter_members();
        !known.any(|m| m.id() == member_id && m.incarnation() == *incarnation)
    }

    fn announces(&self) -> bool {
        !self.seeds.is_empty() || self.touch == Touch::Unheard
    }

    /// Tells seeds that are no members that we are here, and members that have not heard who we are now.
    fn announce(&mut self, now: Instant) {
        let unheard = self.touch == Touch::Unheard;
        self.seeds_at = now + self.touch.period();
        let members: Vec<Node> = self.foca.iter_members().map(|m| *m.id()).collect();
        let unknown = |seed: &&SocketAddr| !members.iter().any(|m| m.addr == **seed);
        let mut to: Vec<Node> = self
            .seeds
            .iter()
            .filter(unknown)
            .map(|s| Node::at(*s))
            .collect();
        if unheard {
            let round = members.iter().cycle().skip(self.announced);
            to.extend(round.take(members.len().min(THREE.get())));
            self.announced = (self.announced + THREE.get()) % members.len().max(1);
        }
        for node in to {
            self.with_foca(now, |foca, runtime| foca.announce(node, runtime));
        }
    }

    /// foca lets a member be put under suspicion from outside, but takes it down only after a probe of
    /// its own failed. So the others are told, who hear an objection if it lives; and we pass it over.
    fn suspect(&mut self, now: Instant, node: Node) {
        let known = self.foca.iter_members().find(|m| *m.id() == node).cloned();
        let Some(known) = known else {
            return;
        };
        let suspect = foca::Member::new(node, known.incarnation(), State::Suspect);
        self.with_foca(now, |foca, runtime| {
            foca.apply_many(std::iter::once(suspect), true, runtime)
        });
        let until = now + PASS_OVER_FOR;
        match self.passed_over.iter_mut().find(|(n, _)| *n == node) {
            Some(place) => place.1 = until,
            None => self.passed_over.push((node, until)),
        }
    }

    fn with_foca(
        &mut self,
        now: Instant,
        act: impl FnOnce(
            &mut Foca<Node, PostcardCodec, SmallRng, NoCustomBroadcast>,
            &mut Runtime<'_>,
        ) -> Result<(), foca::Error>,
    ) {
        let before = self.touch;
        let mut runtime = Runtime {
            now,
            timers: &mut self.timers,
            outputs: &mut self.outputs,
            touch: &mut self.touch,
            speaker: None,
        };
        if let Err(error) = act(&mut self.foca, &mut runtime) {
            // A timer of an earlier life, or a probe that was interrupted: foca has mended it.
            tracing::debug!(%error, "membership");
        }
        if self.touch != before {
            self.seeds_at = self.seeds_at.min(now + self.touch.period());
        }
    }

    /// What is different from what was told before.
    fn look(&mut self, now: Instant) {
        let me = *self.foca.identity();
        let mut suspected = Vec::new();
        let mut live = if self.left { Vec::new() } else { vec![me] };
        for member in self.foca.iter_members() {
            let node = *member.id();
            if member.state() == State::Suspect {
                suspected.push(node);
            }
            let passed = self.passed_over.iter().any(|(n, t)| *n == node && *t > now);
            if !passed {
                live.push(node);
            }
        }
        live.sort_unstable_by_key(|node| node.addr);
        for node in self.suspected.iter().filter(|n| !suspected.contains(n)) {
            if self.foca.iter_members().any(|m| m.id().addr == node.addr) {
                self.outputs.push_back(Output::Event(Event::Cleared(*node)));
            }
        }
        for node in suspected.iter().filter(|n| !self.suspected.contains(n)) {
            self.outputs
                .push_back(Output::Event(Event::Suspected(*node)));
        }
        self.suspected = suspected;
        if live != self.live {
            self.live = live;
            self.outputs.push_back(Output::Event(Event::Changed));
        }
    }
}

fn config() -> Config {
    let every = |frequency, num_members| {
        Some(PeriodicParams {
            frequency,
            num_members,
        })
    };
    Config {
        probe_period: PROBE_PERIOD,
        probe_rtt: PROBE_RTT,
        num_indirect_probes: THREE,
        // Four times the logarithm of what there can be.
        max_transmissions: const { NonZeroU8::new(10).unwrap() },
        suspect_to_down_after: SUSPECT_FOR,
        remove_down_after: FORGET_AFTER,
        max_packet_size: const { NonZeroUsize::new(DATAGRAM_BYTES_MAX).unwrap() },
        notify_down_members: true,
        periodic_announce: every(ANNOUNCE_PERIOD, ONE),
        periodic_announce_to_down_members: every(ANNOUNCE_DOWN_PERIOD, TWO),
        periodic_gossip: every(GOSSIP_PERIOD, THREE),
    }
}

/// The same for the last that a node says: to each of the others, since only of whom it says so itself
/// it is known that it leaves and has not died.
fn farewell() -> Config {
    const ALL: NonZeroU8 = NonZeroU8::MAX;
    const { assert!(ALL.get() as usize >= NODES_MAX) }
    Config {
        num_indirect_probes: NonZeroUsize::from(ALL),
        max_transmissions: ALL,
        ..config()
    }
}

/// Whether others know this node as who it is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Touch {
    /// There is nobody, or not yet.
    Alone,
    /// It has told its new generation, and nobody has answered to that. Until then foca neither probes
    /// nor gossips, and takes nothing that is meant for the old one.
    Unheard,
    Heard,
}

impl Touch {
    /// How often seeds are announced to.
    const fn period(self) -> Duration {
        match self {
            Self::Alone => SEEDS_PERIOD_ALONE,
            Self::Unheard => SEEDS_PERIOD_UNHEARD,
            Self::Heard => SEEDS_PERIOD,
        }
    }
}

/// Where foca puts what it wants.
struct Runtime<'a> {
    now: Instant,
    timers: &'a mut Timers,
    outputs: &'a mut VecDeque<Output>,
    touch: &'a mut Touch,
    /// Whose datagram is taken in.
    speaker: Option<Node>,
}

impl foca::Runtime<Node> for Runtime<'_> {
    fn notify(&mut self, notification: Notification<'_, Node>) {
        let event = match notification {
            Notification::MemberUp(node) => Event::Joined(*node),
            Notification::MemberDown(node) if self.speaker == Some(*node) => Event::Left(*node),
            Notification::MemberDown(node) => Event::Died(*node),
            Notification::Rename(_, node) => Event::Renewed(*node),
            Notification::Idle => {
                *self.touch = Touch::Alone;
                Event::Alone
            }
            Notification::Rejoin(node) => {
                *self.touch = Touch::Unheard;
                Event::Rejoined(*node)
            }
            // Told by who joined.
            Notification::Active => {
                *self.touch = Touch::Heard;
                return;
            }
            // Told by ourselves: nothing but leaving ends a node, whose generations do not run out.
            Notification::Defunct => return,
        };
        self.outputs.push_back(Output::Event(event));
    }

    fn send_to(&mut self, to: Node, data: &[u8]) {
        self.outputs.push_back(Output::Send {
            to: to.addr,
            bytes: data.to_vec(),
        });
    }

    fn submit_after(&mut self, event: foca::Timer<Node>, after: Duration) {
        self.timers.push(self.now + after, event);
    }
}

#[cfg(test)]
mod tests;
