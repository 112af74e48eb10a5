//! What a fleet of forward proxies counts that share their caps.
//!
//! | metric | labels |
//! |---|---|
//! | `weir_forward_redis_asks_total` (places asked for) | `outcome` |
//! | `weir_forward_redis_events_total` (what became of the connection) | `event` |
//! | `weir_forward_redis_standing` (1 for how it stands) | `standing` |
//! | `weir_forward_redis_waiting` (asks that wait for Redis' answer) | |
//! | `weir_forward_redis_held` (places of this proxy) | |
//! | `weir_forward_redis_proxies` (in the fleet, this one among them) | `kind`: `weir` or `dprl` |

use super::text::{Family, Kind};

/// How it stands between this proxy and Redis.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Standing {
    /// Redis cannot be asked: `REDIS_FAIL` holds.
    #[default]
    Away,
    /// There is a connection; Redis is being told what is open here.
    Joining,
    /// Redis was started anew and is waited with until the whole fleet has told what is open.
    Settling,
    /// The fleet shares its caps.
    Shared,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Away, Self::Joining, Self::Settling, Self::Shared];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Joining => "joining",
            Self::Settling => "settling",
            Self::Shared => "shared",
        }
    }
}

/// Counts since the start, and how it stands now. All but the last few only ever grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FleetCounters {
    /// Asks that Redis granted, and those of hosts without a cap.
    pub granted: u64,
    /// Asks that Redis had no place for.
    pub full: u64,
    /// Asks that nobody could answer, and the policy or a full queue refused.
    pub refused: u64,
    /// Asks that were granted without Redis.
    pub alone_granted: u64,
    /// Asks for which this proxy's own part of the cap had no place, without Redis.
    pub alone_full: u64,
    /// Asks that Redis did not answer in time, although there was a connection.
    pub late: u64,
    /// Places that Redis granted to nobody who still waited; each is given back.
    pub late_grants: u64,
    /// Times that Redis was lost.
    pub lost: u64,
    /// Times that the fleet was joined: the first one, and each after Redis was lost or had forgotten.
    pub joined: u64,
    /// Times that Redis had forgotten this proxy while the connection stood.
    pub forgotten: u64,

    /// How it stands now.
    pub standing: Standing,
    /// Asks that wait now.
    pub waiting: usize,
    /// Places that this proxy holds now, of all hosts.
    pub held: u64,
    /// Proxies in the fleet, this one among them, as last seen.
    pub fleet: usize,
    /// Those of them that are dprl.
    pub foreign: usize,
}

impl FleetCounters {
    /// Appends everything to `out` in the text format 0.0.4.
    pub(super) fn encode(&self, out: &mut String) {
        let asks = Family {
            name: "weir_forward_redis_asks_total",
            help: "Places for connections that the forward proxy asked for, by outcome; alone_*: decided without \
                   Redis",
            kind: Kind::Counter,
        };
        asks.head(out);
        for (outcome, count) in [
            ("granted", self.granted),
            ("full", self.full),
            ("refused", self.refused),
            ("alone_granted", self.alone_granted),
            ("alone_full", self.alone_full),
        ] {
            asks.sample(out, "", &[("outcome", outcome)], count);
        }
        let events = Family {
            name: "weir_forward_redis_events_total",
            help: "Times that Redis was lost, joined, or had forgotten this proxy, and answers that came too late",
            kind: Kind::Counter,
        };
        events.head(out);
        for (event, count) in [
            ("lost", self.lost),
            ("joined", self.joined),
            ("forgotten", self.forgotten),
            ("late", self.late),
            ("late_grant", self.late_grants),
        ] {
            events.sample(out, "", &[("event", event)], count);
        }
        self.encode_gauges(out);
    }

    fn encode_gauges(&self, out: &mut String) {
        let gauge = |name, help| Family {
            name,
            help,
            kind: Kind::Gauge,
        };
        let standing = gauge(
            "weir_forward_redis_standing",
            "1 for how this proxy stands with Redis, else 0: shared is well, away follows REDIS_FAIL",
        );
        standing.head(out);
        for one in Standing::ALL {
            let is_so = u8::from(one == self.standing);
            standing.sample(out, "", &[("standing", one.as_str())], is_so);
        }
        let waiting = gauge(
            "weir_forward_redis_waiting",
            "Asks that wait for an answer of Redis now",
        );
        waiting.head(out);
        waiting.sample(out, "", &[], self.waiting);
        let held = gauge(
            "weir_forward_redis_held",
            "Places for connections that this proxy holds in Redis now",
        );
        held.head(out);
        held.sample(out, "", &[], self.held);
        let proxies = gauge(
            "weir_forward_redis_proxies",
            "Forward proxies that share caps through Redis, this one among them",
        );
        proxies.head(out);
        let ours = self.fleet.saturating_sub(self.foreign);
        for (kind, count) in [("weir", ours), ("dprl", self.foreign)] {
            proxies.sample(out, "", &[("kind", kind)], count);
        }
    }
}
