//! What the limiter holds, with names: who waits for what, and who is busy.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::ms;
use crate::clock::Instant;
use crate::limit::BucketKey;
use crate::limit::survey::{BucketSight, Opens, Reading, SenderSight, TokenSight, sender_key};
use crate::process::Process;
use crate::route::identity::Client;
use crate::status::{
    Bucket, Buckets, Lock, Names, Sender, SenderKind, SenderName, Senders, Status, TOP,
};

/// Fills in senders and buckets.
pub(super) fn look(process: &Process, now: Instant, status: &mut Status) {
    let limiter = process.mesh.limiter();
    let blocked = limiter.blocked(now, TOP);
    let senders = limiter.senders(now, TOP, &blocked.by_sender);
    let (busiest, since) = busiest(process, now);
    // One look each, at those that are shown.
    let busiest = busiest.into_iter().map(|busy| {
        let sight = busy.alone.then(|| limiter.sight(now, &busy.key)).flatten();
        (busy, sight)
    });
    let busiest: Vec<_> = busiest.collect();
    let mut names = process.watch.names();
    let waits = |sight: &SenderSight| {
        let for_buckets = blocked.by_sender.get(&sight.key).copied();
        sight.waiting + for_buckets.unwrap_or_default()
    };
    let top = senders.top.iter().map(|sight| Sender {
        waiting: waits(sight),
        ..sender(name(&mut names, sight), sight)
    });
    let top = top.collect();
    let locks = senders
        .locked
        .iter()
        .map(|sight| lock(name(&mut names, sight), sight));
    status.senders = Senders {
        tracked: senders.tracked as u64,
        top,
        locked: senders.locked_count as u64,
        locks: locks.collect(),
    };
    let mut show = |key: &BucketKey, requests, sight: Option<&BucketSight>| {
        bucket(&mut names, key, requests, sight)
    };
    let blocked_top = blocked
        .top
        .iter()
        .map(|(key, sight)| show(key, 0, Some(sight)));
    let blocked_top = blocked_top.collect();
    let busiest = busiest
        .iter()
        .map(|(busy, sight)| show(&busy.key, busy.requests, sight.as_ref()));
    status.buckets = Buckets {
        tracked: blocked.tracked as u64,
        waited_for: blocked.buckets as u64,
        blocked: blocked_top,
        busiest: busiest.collect(),
        busiest_over_ms: ms(now.saturating_duration_since(since)),
        unseen_shards: (blocked.held + senders.held) as u64,
    };
}

/// What was asked for most since the last look.
struct Busy {
    key: BucketKey,
    requests: u64,
    /// It is one bucket: interactions and webhooks, each of which has its own, are shown together.
    alone: bool,
}

/// The buckets that were asked for most since the last look, and since when.
fn busiest(process: &Process, now: Instant) -> (Vec<Busy>, Instant) {
    let (counts, since) = process.watch.take_hot(now);
    let mut names = process.watch.names();
    let mut sums: HashMap<_, Busy> = HashMap::new();
    for (key, count) in counts {
        let major = names.of_major(key.major);
        let alone = major.kind.is_empty() || major.id.is_some();
        let scope = if alone { key.major } else { 0 };
        let sender = if alone { key.identity } else { 0 };
        let busy = sums
            .entry((key.route, scope, sender, major.kind))
            .or_insert(Busy {
                key,
                requests: 0,
                alone,
            });
        busy.requests += u64::from(count);
    }
    let mut sums: Vec<_> = sums.into_values().collect();
    sums.sort_unstable_by_key(|busy| (Reverse(busy.requests), busy.key));
    sums.truncate(TOP);
    (sums, since)
}

/// As it was told while somebody looked; else what its limits know of it, so that the first look has the
/// names of bots, too.
fn name(names: &mut Names, sight: &SenderSight) -> SenderName {
    let told = names.of_sender(sight.key);
    match (told.kind, sight.user_id) {
        (SenderKind::Unknown, Some(id)) => SenderName::of(Client::Bot(id)),
        (SenderKind::Unknown, None) if sight.is_bearer => SenderName::of(Client::Bearer),
        (_, _) => told,
    }
}

fn id(name: SenderName) -> Option<String> {
    name.user_id.map(|id| id.to_string())
}

fn sender(name: SenderName, sight: &SenderSight) -> Sender {
    Sender {
        kind: name.kind,
        user_id: id(name),
        limit: sight.limit,
        used: sight.used,
        waiting: sight.waiting,
        under_way: sight.under_way,
        paused_ms: ms(sight.paused),
        doubtful: sight.token == TokenSight::Doubtful,
    }
}

fn lock(name: SenderName, sight: &SenderSight) -> Lock {
    Lock {
        kind: name.kind,
        user_id: id(name),
        left_ms: match sight.token {
            TokenSight::Locked(left) => ms(left),
            TokenSight::Good | TokenSight::Doubtful => 0,
        },
    }
}

fn bucket(
    names: &mut Names,
    key: &BucketKey,
    requests: u64,
    sight: Option<&BucketSight>,
) -> Bucket {
    let route = names.of_route(key.route);
    let major = names.of_major(key.major);
    let sender = names.of_sender(sender_key(key.identity));
    let named = Bucket {
        method: route.method.to_owned(),
        route: route.label,
        major: major.kind.to_owned(),
        major_id: major.id.map(|id| id.to_string()),
        kind: sender.kind,
        user_id: id(sender),
        requests,
        returns: "unknown".to_owned(),
        ..Bucket::default()
    };
    // It may have been forgotten since, or be held by somebody.
    let Some(sight) = sight else {
        return named;
    };
    Bucket {
        waiting: sight.waiting,
        under_way: sight.under_way.into(),
        limit: sight.slots.map(|(limit, _)| limit.into()),
        remaining: sight.slots.map(|(_, free)| free.into()),
        opens_in_ms: match sight.opens {
            // Rounded up: a countdown that has ended has ended.
            Opens::In(wait) => {
                Some(u64::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX))
            }
            Opens::AfterAnswer => None,
        },
        last_in_ms: ms(sight.last_in),
        paused: sight.paused,
        returns: match sight.reading {
            Reading::Unknown | Reading::Careful => "unknown",
            Reading::Free => "unlimited",
            Reading::Fixed => "at_once",
            Reading::Sliding => "one_by_one",
        }
        .to_owned(),
        ..named
    }
}
