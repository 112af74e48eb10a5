//! What a person should know first.
//!
//! A **problem** is what fails requests until somebody does something, or what is about to; a **notice** is
//! what weir deals with, and what explains a slow minute. Each says what to do.

use super::{Attention, Cluster, Level, State, Status, Worker};

/// Of the budget of invalid requests, in tenths: from here on weir holds back who causes them.
const BUDGET_WARY: u64 = 1;

/// From here on it holds back everybody who does, strictly.
const BUDGET_STRICT: u64 = 5;

/// A bound that so many hundredths of are used will be met soon.
const NEARLY: u64 = 90;

/// Who waits for longer than this is worth a word: an ordinary window is one to five seconds.
const LONG_MS: u64 = 10_000;

/// Nodes that start together, and one that is restarted, have found each other within so long.
const APART_MS: u64 = 5_000;

/// Reasons for which a node's datagrams are ignored although it is meant to be one of the cluster.
const APART: [&str; 4] = ["wrong_tag", "unsealed", "no_secret", "stale"];

/// What is refused, as a count of the last minute or so, by reason; and what went wrong, by kind.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// The time that the counts are of.
    pub over_ms: u64,
    /// By reason.
    pub refused: Vec<(String, u64)>,
    /// By kind, of the upstream's alone.
    pub errors: Vec<(String, u64)>,
}

/// What is to be said of this document, the worst first.
pub fn attention(status: &Status, recent: &Recent) -> Vec<Attention> {
    let mut list = Vec::new();
    cloudflare(status, &mut list);
    invalid(status, &mut list);
    workers(status, &mut list);
    tokens(status, &mut list);
    upstream(recent, &mut list);
    refused(recent, &mut list);
    bounds(status, &mut list);
    waits(status, &mut list);
    neighbours(status, &mut list);
    if status.state == State::Draining {
        let text = "weir is ending: requests under way finish, nobody new is let in.";
        list.push(notice("draining", text.to_owned(), None));
    }
    // Stable: within a level in the order above.
    list.sort_by_key(|item| item.level);
    list
}

fn problem(what: &str, text: String, left_ms: Option<u64>) -> Attention {
    Attention {
        level: Level::Problem,
        what: what.to_owned(),
        text,
        left_ms,
    }
}

fn notice(what: &str, text: String, left_ms: Option<u64>) -> Attention {
    Attention {
        level: Level::Notice,
        ..problem(what, text, left_ms)
    }
}

fn cloudflare(status: &Status, list: &mut Vec<Attention>) {
    let cloudflare = &status.guards.cloudflare;
    if cloudflare.blocked {
        let text = "Cloudflare blocks this address, so nothing is sent. One request will find out whether \
                    it still does; look for what drew so many 401s, 403s or 429s.";
        let left = Some(cloudflare.left_ms);
        list.push(problem("cloudflare", text.to_owned(), left));
    }
}

fn invalid(status: &Status, list: &mut Vec<Attention>) {
    let budget = &status.guards.invalid;
    let (used, max, ban) = (budget.used, budget.max, budget.discord_max);
    if max == 0 || used * 10 < max * BUDGET_WARY {
        return;
    }
    let told = format!("{used} invalid requests (401, 403, 429) in ten minutes; ");
    let rest = if used >= max {
        format!("nothing is sent until some of them are forgotten, since Discord bans at {ban}.")
    } else {
        format!("weir holds back who causes them and stops at {max}, since Discord bans at {ban}.")
    };
    let why = " Look for a bot with a dead token or missing permissions.";
    let text = told + &rest + why;
    list.push(if used * 10 < max * BUDGET_STRICT {
        notice("invalid_requests", text, None)
    } else {
        problem("invalid_requests", text, None)
    });
}

fn workers(status: &Status, list: &mut Vec<Attention>) {
    let stuck = |(index, worker): (usize, &Worker)| (!worker.answers).then(|| index.to_string());
    let stuck: Vec<_> = status
        .workers
        .iter()
        .enumerate()
        .filter_map(stuck)
        .collect();
    if !stuck.is_empty() {
        let (which, many) = (stuck.join(", "), stuck.len() > 1);
        let text = if many {
            format!("Workers {which} do not answer: their connections are not served.")
        } else {
            format!("Worker {which} does not answer: its connections are not served.")
        };
        let advice = " If it stays so, restart weir; under systemd its watchdog does.";
        list.push(problem("workers", text + advice, None));
    }
}

fn tokens(status: &Status, list: &mut Vec<Attention>) {
    let locked = status.senders.locked;
    if locked == 0 {
        return;
    }
    let first = status.senders.locks.first();
    let whose = match (locked, first.and_then(|lock| lock.user_id.as_ref())) {
        (1, Some(id)) => format!("Discord refused the token of {id}"),
        (1, None) => "Discord refused a token".to_owned(),
        (many, _) => format!("Discord refused {many} tokens"),
    };
    let text = whose
        + ": its requests are answered with 401. Was it reset? Restart that bot with the new one.";
    let left = first.map(|lock| lock.left_ms);
    list.push(problem("tokens", text, left));
}

fn upstream(recent: &Recent, list: &mut Vec<Attention>) {
    let failed: u64 = recent.errors.iter().map(|(_, count)| count).sum();
    if failed == 0 {
        return;
    }
    let text = format!(
        "{failed} exchanges with Discord failed in the last {} ({}).",
        span(recent.over_ms),
        named(&recent.errors)
    );
    list.push(notice("upstream", text, None));
}

fn refused(recent: &Recent, list: &mut Vec<Attention>) {
    /// Reasons that have an entry of their own, and what is the client's alone.
    const TOLD: [&str; 6] = [
        "token_locked",
        "invalid_budget",
        "breaker",
        "draining",
        "malformed",
        "webhook_dead",
    ];
    let of_bounds: Vec<_> = recent
        .refused
        .iter()
        .filter(|(reason, _)| !TOLD.contains(&reason.as_str()))
        .cloned()
        .collect();
    if !of_bounds.is_empty() {
        let total: u64 = of_bounds.iter().map(|(_, count)| count).sum();
        let text = format!(
            "{total} requests or connections were refused in the last {} ({}).",
            span(recent.over_ms),
            named(&of_bounds)
        );
        list.push(notice("refused", text, None));
    }
}

fn bounds(status: &Status, list: &mut Vec<Attention>) {
    let nearly = |used: u64, max: u64| max > 0 && used * 100 >= max * NEARLY;
    let (waiting, max) = (status.requests.waiting, status.requests.waiting_max);
    if nearly(waiting, max) {
        let text = format!(
            "{waiting} requests wait, of at most {max} (MAX_WAITING): soon more are refused."
        );
        list.push(problem("waiting", text, None));
    }
    let connections = &status.connections;
    let (open, max) = (connections.clients, connections.clients_max);
    if nearly(open, max) {
        let text = format!(
            "{open} client connections are open, of at most {max} (MAX_CONNECTIONS, as far as open files \
             allow): soon more are refused."
        );
        list.push(problem("clients", text, None));
    }
    let pool = &connections.upstream;
    if pool.waiting > 0 {
        let text = format!(
            "{} requests wait for a connection to Discord: all {} are in use (UPSTREAM_MAX_CONNECTIONS).",
            pool.waiting, pool.max
        );
        list.push(notice("connections", text, None));
    }
}

fn waits(status: &Status, list: &mut Vec<Attention>) {
    let blocked = &status.buckets.blocked;
    let longest = blocked
        .iter()
        .filter(|bucket| bucket.waiting > 0)
        .filter_map(|bucket| Some((bucket.opens_in_ms?, bucket)))
        .max_by_key(|(opens, _)| *opens);
    if let Some((opens, bucket)) = longest.filter(|(opens, _)| *opens >= LONG_MS) {
        let route = if bucket.route.is_empty() {
            "a route".to_owned()
        } else {
            format!("{} {}", bucket.method, bucket.route)
        };
        let text = format!(
            "{} wait for {route}, whose limit is used up.",
            count(bucket.waiting.into(), "request", "requests")
        );
        list.push(notice("bucket", text, Some(opens)));
    }
    let paused = status
        .senders
        .top
        .iter()
        .find(|sender| sender.paused_ms > 0);
    if let Some(sender) = paused {
        let whose = sender.user_id.as_deref().unwrap_or("a sender");
        let text = format!(
            "Discord answered a global 429 for {whose}: does another program use the same token?"
        );
        list.push(notice("global", text, Some(sender.paused_ms)));
    }
}

/// Nodes that do not see each other: limits are overstepped, and nothing else shows it.
fn split(cluster: &Cluster, list: &mut Vec<Attention>) {
    let missing: Vec<_> = cluster
        .missing
        .iter()
        .filter(|missing| missing.for_ms >= APART_MS)
        .collect();
    let alone = cluster.alone_ms.filter(|ms| *ms >= APART_MS);
    if let Some(ms) = alone {
        let text = format!(
            "This node has seen no other of its cluster for {}, and serves everybody. If there are others, \
             limits are overstepped: look at CLUSTER_MEMBERS or CLUSTER_DNS, at CLUSTER_SECRET, which must be \
             the same, and whether UDP and TCP reach CLUSTER_PORT.",
            span(ms)
        );
        list.push(if missing.is_empty() {
            notice("cluster_alone", text, None)
        } else {
            problem("cluster_alone", text, None)
        });
    }
    if !missing.is_empty() {
        let each = missing.iter().map(|missing| {
            let resolves = if missing.resolves {
                ""
            } else {
                ", whose name does not resolve"
            };
            format!("{} (for {}{resolves})", missing.name, span(missing.for_ms))
        });
        let text = format!(
            "Of CLUSTER_MEMBERS, not in the cluster: {}. Is it down? If not: has it the same CLUSTER_SECRET, \
             is its clock right within 30 s, and do UDP and TCP reach its CLUSTER_PORT, both ways?",
            each.collect::<Vec<_>>().join(", ")
        );
        list.push(problem("cluster_missing", text, None));
    }
    for ignored in &cluster.ignored {
        if APART.contains(&ignored.reason.as_str()) {
            let text = format!(
                "Datagrams of {} are ignored ({}): {}.",
                ignored.from, ignored.reason, ignored.remedy
            );
            list.push(problem("cluster_ignored", text, None));
        }
    }
}

fn neighbours(status: &Status, list: &mut Vec<Attention>) {
    if let Some(cluster) = &status.cluster {
        if !cluster.leaving {
            split(cluster, list);
        }
        let not_alive = cluster
            .members
            .iter()
            .filter(|member| member.state != "alive");
        for member in not_alive {
            let what = match member.state.as_str() {
                "suspected" => "does not answer and may be dead",
                _ => "serves nobody for now",
            };
            let text = format!("The node {} {what}.", member.address);
            list.push(notice("cluster", text, None));
        }
    }
    let Some(forward) = &status.forward else {
        return;
    };
    if let Some(redis) = forward
        .redis
        .as_ref()
        .filter(|redis| redis.standing == "away")
    {
        let text = format!(
            "Redis is out of reach, so the {} forward proxies do not know of each other; REDIS_FAIL says \
             what holds meanwhile.",
            redis.proxies
        );
        list.push(problem("redis", text, None));
    }
    if let Some(host) = forward.hosts.iter().find(|host| host.waiting > 0) {
        let text = format!(
            "{} wait for {}, which has all its {} connections.",
            count(host.waiting, "client", "clients"),
            host.host,
            host.limit
        );
        list.push(notice("forward", text, None));
    }
}

/// `bucket_full 3, waiting_full 1`
fn named(counts: &[(String, u64)]) -> String {
    let each = |(name, count): &(String, u64)| format!("{name} {count}");
    counts.iter().map(each).collect::<Vec<_>>().join(", ")
}

fn count(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn span(ms: u64) -> String {
    match ms.div_ceil(1_000) {
        0 | 1 => "second".to_owned(),
        seconds @ 2..=90 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}
