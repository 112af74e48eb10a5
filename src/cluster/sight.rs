//! Who ought to be in sight and is not, and whose datagrams were ignored lately: what tells a person
//! that a cluster has fallen apart, and why.
//!
//! Cost: the control thread looks twice a second, and notes each datagram that it ignores.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::wire::Ignored;
use crate::clock::Instant;

/// How long a datagram that was ignored is shown: nodes that do not find each other knock each second
/// while they are alone and every few seconds later.
const LATELY: Duration = Duration::from_secs(60);
/// Members that are missing and shown: as many as other lists of the document have entries.
const MISSING_MAX: usize = 20;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Sight {
    alone_since: Option<Instant>,
    named: Vec<Named>,
    /// By reason, who sent the last one and when, and how many have not been told of.
    ignored: [(Option<(SocketAddr, Instant)>, u64); Ignored::ALL.len()],
}

/// One entry of `CLUSTER_MEMBERS`.
struct Named {
    name: String,
    resolves: bool,
    addrs: Vec<SocketAddr>,
    missing_since: Option<Instant>,
}

/// What is shown of it.
#[derive(Serialize)]
pub(super) struct Shown {
    alone_ms: Option<u64>,
    missing: Vec<Missing>,
    ignored: Vec<IgnoredLately>,
}

#[derive(Serialize)]
struct Missing {
    name: String,
    resolves: bool,
    for_ms: u64,
}

#[derive(Serialize)]
struct IgnoredLately {
    reason: &'static str,
    from: String,
    ago_ms: u64,
    remedy: &'static str,
}

impl Sight {
    /// What an entry of `CLUSTER_MEMBERS` resolves to; `None`: to nothing, so that the last answer holds.
    pub(super) fn resolved(&mut self, name: &str, addrs: Option<&[SocketAddr]>) {
        let place = self.named.iter().position(|named| named.name == name);
        let place = place.unwrap_or_else(|| {
            self.named.push(Named {
                name: name.to_owned(),
                resolves: false,
                addrs: Vec::new(),
                missing_since: None,
            });
            self.named.len() - 1
        });
        if let Some(named) = self.named.get_mut(place) {
            named.resolves = addrs.is_some();
            if let Some(addrs) = addrs {
                named.addrs = addrs.to_vec();
            }
        }
    }

    /// These are members now, this node at `me` among them.
    pub(super) fn look(&mut self, now: Instant, me: SocketAddr, members: &[SocketAddr]) {
        let is_alone = members.iter().all(|member| *member == me);
        self.alone_since = is_alone.then(|| self.alone_since.unwrap_or(now));
        for named in &mut self.named {
            let is_there = |addr: &SocketAddr| members.contains(addr) || is_own(*addr, me);
            let is_missing = !named.addrs.iter().any(is_there);
            named.missing_since = is_missing.then(|| named.missing_since.unwrap_or(now));
        }
    }

    /// A datagram was ignored.
    pub(super) fn ignore(&mut self, now: Instant, why: Ignored, from: SocketAddr) {
        let place = Ignored::ALL.iter().position(|reason| *reason == why);
        if let Some((last, untold)) = place.and_then(|place| self.ignored.get_mut(place)) {
            *last = Some((from, now));
            *untold += 1;
        }
    }

    /// The commonest reason since the call before, and who sent the last one of it.
    pub(super) fn take_commonest(&mut self) -> Option<(Ignored, SocketAddr)> {
        let all = Ignored::ALL.iter().zip(&self.ignored);
        let commonest = all
            .filter(|(_, (_, untold))| *untold > 0)
            .max_by_key(|(_, (_, untold))| *untold)
            .and_then(|(why, (last, _))| Some((*why, last.as_ref()?.0)));
        self.ignored.iter_mut().for_each(|(_, untold)| *untold = 0);
        commonest
    }

    /// What is shown of it now.
    pub(super) fn shown(&self, now: Instant) -> Shown {
        let ms = |since: Instant| now.saturating_duration_since(since).as_millis() as u64;
        let missing = self.named.iter().filter_map(|named| {
            Some(Missing {
                name: named.name.clone(),
                resolves: named.resolves,
                for_ms: ms(named.missing_since?),
            })
        });
        let ignored = Ignored::ALL.iter().zip(&self.ignored);
        let ignored = ignored.filter_map(|(why, (last, _))| {
            let (from, at) = (*last)?;
            Some(IgnoredLately {
                reason: why.label(),
                from: from.to_string(),
                ago_ms: ms(at),
                remedy: why.remedy(),
            })
        });
        Shown {
            alone_ms: self.alone_since.map(ms),
            missing: missing.take(MISSING_MAX).collect(),
            ignored: ignored
                .filter(|last| last.ago_ms <= LATELY.as_millis() as u64)
                .collect(),
        }
    }
}

/// Whether this address is this node's own. Many hosts resolve their own name to a loopback address.
fn is_own(addr: SocketAddr, me: SocketAddr) -> bool {
    addr == me || (addr.port() == me.port() && addr.ip().is_loopback() && !me.ip().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn addr(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 7946).into()
    }

    fn at(s: u64) -> Instant {
        Instant::from_nanos(1) + Duration::from_secs(s)
    }

    fn shown(sight: &Sight, now: Instant) -> Value {
        serde_json::to_value(sight.shown(now)).unwrap()
    }

    #[test]
    fn a_configured_member_that_is_none_is_missing_since_it_went_and_this_node_never_is() {
        let mut sight = Sight::default();
        for n in 1..=3 {
            sight.resolved(&format!("node{n}"), Some(&[addr(n)]));
        }
        let own_name = SocketAddr::from(([127, 0, 1, 1], 7946));
        sight.resolved("myself", Some(&[own_name]));
        sight.look(at(1), addr(1), &[addr(1), addr(2), addr(3)]);
        assert_eq!(shown(&sight, at(1))["missing"], json!([]));
        sight.look(at(2), addr(1), &[addr(1), addr(3)]);
        sight.look(at(5), addr(1), &[addr(1), addr(3)]);
        let missing = json!([{ "name": "node2", "resolves": true, "for_ms": 4_000 }]);
        assert_eq!(shown(&sight, at(6))["missing"], missing);
        // The last answer of a name holds.
        sight.resolved("node2", None);
        sight.look(at(7), addr(1), &[addr(1), addr(2), addr(3)]);
        assert_eq!(shown(&sight, at(7))["missing"], json!([]));
        sight.resolved("nobody", None);
        sight.look(at(8), addr(1), &[addr(1), addr(2), addr(3)]);
        let missing = json!([{ "name": "nobody", "resolves": false, "for_ms": 0 }]);
        assert_eq!(shown(&sight, at(8))["missing"], missing);
    }

    #[test]
    fn a_node_is_alone_since_it_saw_nobody() {
        let mut sight = Sight::default();
        sight.look(at(1), addr(1), &[addr(1)]);
        sight.look(at(4), addr(1), &[addr(1)]);
        assert_eq!(shown(&sight, at(9))["alone_ms"], json!(8_000));
        sight.look(at(9), addr(1), &[addr(1), addr(2)]);
        assert_eq!(shown(&sight, at(9))["alone_ms"], Value::Null);
    }

    #[test]
    fn what_was_ignored_is_shown_for_a_minute_with_its_sender_and_the_commonest_is_told_once() {
        let mut sight = Sight::default();
        sight.ignore(at(1), Ignored::Foreign, addr(9));
        sight.ignore(at(1), Ignored::WrongTag, addr(2));
        sight.ignore(at(2), Ignored::WrongTag, addr(3));
        let ignored = shown(&sight, at(61))["ignored"].clone();
        assert_eq!(ignored.as_array().unwrap().len(), 2, "{ignored}");
        let ignored = shown(&sight, at(62))["ignored"].clone();
        assert_eq!(ignored.as_array().unwrap().len(), 1, "{ignored}");
        assert_eq!(ignored[0]["reason"], "wrong_tag");
        assert_eq!(ignored[0]["from"], "10.0.0.3:7946");
        let remedy = ignored[0]["remedy"].as_str().unwrap();
        assert!(remedy.contains("CLUSTER_SECRET"), "{remedy}");
        assert_eq!(sight.take_commonest(), Some((Ignored::WrongTag, addr(3))));
        assert_eq!(sight.take_commonest(), None);
    }
}
