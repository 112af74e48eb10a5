//! What weir does beside: the cluster, the identify queue, the forward proxy.

use std::cmp::Reverse;

use super::{ms, queues, refusals};
use crate::clock::Instant;
use crate::egress::Limits;
use crate::process::Process;
use crate::route::identity::Client;
use crate::status::{Cluster, Forward, Host, Identify, IdentifyBot, Redis, Status, TOP};

/// The cluster, as its own page tells it.
pub(super) fn cluster(process: &Process, status: &mut Status) {
    let Some(members) = &process.cluster else {
        return;
    };
    // One page says how the cluster stands; this one repeats it.
    let cluster: Cluster = serde_json::from_str(&members.page()).unwrap_or_default();
    let own = cluster.members.iter().find(|member| member.this_node);
    status.node = own.map(|member| member.address.clone());
    status.cluster = Some(cluster);
}

pub(super) fn identify(process: &Process, now: Instant, status: &mut Status) {
    if process.config.gateway_queue_port.is_none() {
        return;
    }
    let (census, mut bots) = {
        let queues = queues(process);
        (queues.census(), queues.standings(now))
    };
    bots.sort_by_key(|bot| (Reverse(bot.waiting), bot.remaining, bot.client.key()));
    bots.truncate(TOP);
    let bots = bots.into_iter().map(|bot| IdentifyBot {
        user_id: match bot.client {
            Client::Bot(id) => Some(id.to_string()),
            Client::Bearer | Client::NoAuth | Client::Unknown => None,
        },
        waiting: bot.waiting as u64,
        remaining: bot.remaining,
        total: bot.total,
        max_concurrency: bot.max_concurrency,
        resets_in_ms: bot.resets_in.map(ms),
        next_in_ms: bot.next_in.map(ms),
    });
    status.identify = Some(Identify {
        waiting: census.waiting as u64,
        granted: census.granted,
        refused: refusals(&census),
        bots: bots.collect(),
    });
}

pub(super) fn forward(limits: &Limits) -> Forward {
    let (mut hosts, _) = limits.tallies();
    hosts.sort_by_key(|(host, tally)| {
        let busy = (
            Reverse(tally.waiting),
            Reverse(tally.active),
            Reverse(tally.opened),
        );
        (busy, host.clone())
    });
    hosts.truncate(TOP);
    let hosts = hosts.into_iter().map(|(host, tally)| Host {
        active: tally.active,
        limit: limits.limit_of(&host),
        waiting: tally.waiting,
        refused: tally.refused,
        host,
    });
    Forward {
        clients: limits.clients() as u64,
        default_limit: limits.default_max_connections(),
        hosts: hosts.collect(),
        redis: limits.fleet().map(|fleet| Redis {
            standing: fleet.standing.as_str().to_owned(),
            proxies: fleet.fleet as u64,
        }),
    }
}
