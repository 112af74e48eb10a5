//! Lists: nodes, shards, hosts, bots, buckets.

use super::super::text::{clean, span};
use super::{Line, Look, plain, row};
use crate::status::{Bucket, Sender, SenderKind, Status};

/// Rows of each list.
const ROWS: usize = 5;

/// The cluster, the identify queue and the forward proxy, as far as there are any.
pub(super) fn neighbours(now: &Status, lines: &mut Vec<Line>) {
    if let Some(cluster) = &now.cluster {
        let each = cluster.members.iter().map(|member| {
            let look = if member.state == "alive" {
                Look::Green
            } else {
                Look::Yellow
            };
            let own = if member.this_node { "*" } else { "" };
            let share = member.slots * 100 / 4_096;
            (
                look,
                format!(
                    "{}{own} {} {share} %  ",
                    clean(&member.address),
                    clean(&member.state)
                ),
            )
        });
        lines.push(row("Cluster", each));
    }
    if let Some(identify) = &now.identify {
        let bots = identify.bots.iter().take(ROWS).map(|bot| {
            let whose = bot.user_id.as_deref().map_or("?".to_owned(), clean);
            let next = bot
                .next_in_ms
                .map_or(String::new(), |next| format!(", next in {}", span(next)));
            plain(format!(
                "{whose} {} wait{next}, {} of {} left  ",
                bot.waiting, bot.remaining, bot.total
            ))
        });
        let all = plain(format!(
            "{} wait, {} went  ",
            identify.waiting, identify.granted
        ));
        lines.push(row("Identify", [all].into_iter().chain(bots)));
    }
    if let Some(forward) = &now.forward {
        let hosts = forward.hosts.iter().take(ROWS).map(|host| {
            let limit = if host.limit == 0 {
                String::new()
            } else {
                format!("/{}", host.limit)
            };
            let look = if host.waiting > 0 {
                Look::Yellow
            } else {
                Look::Plain
            };
            let waits = if host.waiting > 0 {
                format!(" {} wait", host.waiting)
            } else {
                String::new()
            };
            (
                look,
                format!("{} {}{limit}{waits}  ", clean(&host.host), host.active),
            )
        });
        let all = plain(format!("{} clients  ", forward.clients));
        let redis = forward.redis.as_ref().map(|redis| {
            (
                Look::Dim,
                format!(
                    "Redis {}, {} proxies",
                    clean(&redis.standing),
                    redis.proxies
                ),
            )
        });
        lines.push(row("Forward", [all].into_iter().chain(hosts).chain(redis)));
    }
}

fn whose(kind: SenderKind, user_id: Option<&str>) -> String {
    match (user_id, kind) {
        (Some(id), _) => clean(id),
        (None, SenderKind::Bot) => "a bot".to_owned(),
        (None, SenderKind::Bearer) => "a bearer".to_owned(),
        (None, SenderKind::NoAuth) => "without a token".to_owned(),
        (None, SenderKind::Webhook) => "a webhook".to_owned(),
        (None, SenderKind::Interaction) => "an interaction".to_owned(),
        (None, SenderKind::Unknown) => "?".to_owned(),
    }
}

pub(super) fn senders(now: &Status, lines: &mut Vec<Line>) {
    if now.senders.top.is_empty() {
        return;
    }
    lines.push(Line::new());
    let tracked = format!(
        "Bots {:>38} {:>10} {:>8}",
        "this second", "under way", "waiting"
    );
    lines.push(vec![(Look::Dim, tracked)]);
    for sender in now.senders.top.iter().take(ROWS) {
        let Sender { used, limit, .. } = sender;
        let look = if used >= limit && *limit > 0 {
            Look::Yellow
        } else {
            Look::Plain
        };
        let mut line = vec![
            plain(format!(
                "  {:26}",
                whose(sender.kind, sender.user_id.as_deref())
            )),
            (look, format!("{:>15}", format!("{used} of {limit}"))),
            plain(format!(" {:>10} {:>8}", sender.under_way, sender.waiting)),
        ];
        if sender.paused_ms > 0 {
            line.push((Look::Red, format!("  paused {}", span(sender.paused_ms))));
        }
        if sender.doubtful {
            line.push((Look::Red, "  token in doubt".to_owned()));
        }
        lines.push(line);
    }
}

pub(super) fn buckets(title: &str, list: &[Bucket], lines: &mut Vec<Line>) {
    if list.is_empty() {
        return;
    }
    lines.push(Line::new());
    let head = format!(
        "{title:42} {:>8} {:>8} {:>9} {:>10}",
        "requests", "waiting", "left", "opens in"
    );
    lines.push(vec![(Look::Dim, head)]);
    for bucket in list.iter().take(ROWS) {
        let left = match (bucket.remaining, bucket.limit) {
            (Some(left), Some(limit)) => format!("{left} of {limit}"),
            (_, _) => "?".to_owned(),
        };
        let opens = match bucket.opens_in_ms {
            Some(0) => "open".to_owned(),
            Some(ms) => span(ms),
            None => "?".to_owned(),
        };
        let look = if bucket.waiting > 0 {
            Look::Yellow
        } else {
            Look::Plain
        };
        let name = format!("{} {}", clean(&bucket.method), clean(&bucket.route));
        lines.push(vec![
            plain(format!("  {name:40}")),
            (
                look,
                format!(
                    " {:>8} {:>8} {left:>9} {opens:>10}",
                    bucket.requests, bucket.waiting
                ),
            ),
            (
                Look::Dim,
                format!(
                    "  {}{}",
                    of(bucket),
                    whose(bucket.kind, bucket.user_id.as_deref())
                ),
            ),
        ]);
    }
}

/// `channel 203039963636301824, `
fn of(bucket: &Bucket) -> String {
    match (&*bucket.major, &bucket.major_id) {
        ("", _) => String::new(),
        (major, Some(id)) => format!("{} {}, ", clean(major), clean(id)),
        (major, None) => {
            let an = if major.starts_with(['a', 'e', 'i', 'o', 'u']) {
                "an"
            } else {
                "a"
            };
            format!("{an} {}, ", clean(major))
        }
    }
}
