//! What is locked, looked at and opened by hand.

use super::super::answer::Answer;
use super::super::pages::Asked;
use super::{changed, json, millis, number};
use crate::clock;
use crate::limit::{BUDGET, Which};

/// Where they are.
pub(in crate::admin) const PATH: &str = "/admin/locks";

/// What single ones are below.
pub(in crate::admin) const BELOW: &str = "/admin/locks/";

/// Locks of one kind that are shown; beyond that their number.
const SHOWN_MAX: usize = 1_000;

/// `GET /admin/locks`
pub(in crate::admin) fn read(asked: &Asked<'_>) -> Answer {
    let (limiter, now) = (asked.process.mesh.limiter(), clock::now());
    let (tokens, webhooks) = (limiter.locked_tokens(now), limiter.dead_webhooks(now));
    let shown_tokens: Vec<_> = tokens
        .iter()
        .take(SHOWN_MAX)
        .map(|lock| {
            serde_json::json!({
                "bot": lock.user_id.map(|id| id.to_string()),
                "key": key(lock.key),
                "left_ms": millis(lock.left),
                "being_tried": lock.probing,
                "confirmed": lock.confirmed,
                "times": lock.times,
            })
        })
        .collect();
    let shown_webhooks: Vec<_> = webhooks
        .iter()
        .take(SHOWN_MAX)
        .map(|dead| {
            serde_json::json!({
                "webhook": dead.id.map(|id| id.to_string()),
                "key": key(dead.key),
                "left_ms": millis(dead.left),
            })
        })
        .collect();
    let cloudflare = limiter
        .block(now)
        .map(|block| serde_json::json!({ "left_ms": millis(block.left), "times": block.times }));
    json(&serde_json::json!({
        "tokens": shown_tokens,
        "tokens_count": tokens.len(),
        "webhooks": shown_webhooks,
        "webhooks_count": webhooks.len(),
        "cloudflare": cloudflare,
        "invalid_requests": { "in_10_minutes": limiter.invalid(now), "refused_from": BUDGET },
    }))
}

/// `DELETE /admin/locks`
pub(in crate::admin) fn open_all(asked: &Asked<'_>) -> Answer {
    let kinds = [Kind::Tokens, Kind::Webhooks, Kind::Cloudflare];
    let opened = kinds.map(|kind| kind.open(asked, Which::All)).iter().sum();
    answer(asked, "all locks", opened)
}

/// `DELETE /admin/locks/…`
pub(in crate::admin) fn open(asked: &Asked<'_>) -> Answer {
    let path = asked.behind(BELOW).unwrap_or_default();
    let (kind, name) = match path.split_once('/') {
        Some((kind, name)) => (kind, Some(name)),
        None => (path, None),
    };
    let Some(kind) = Kind::named(kind) else {
        return Answer::error(404, "there are tokens, webhooks and cloudflare");
    };
    let Some(name) = name else {
        let opened = kind.open(asked, Which::All);
        return answer(asked, &format!("locks of {path}"), opened);
    };
    let Some(which) = which(name).filter(|_| kind != Kind::Cloudflare) else {
        return Answer::error(
            400,
            "a lock is named by an id or by its key, as k0123456789abcdef",
        );
    };
    match kind.open(asked, which) {
        0 => Answer::error(404, "there is no such lock"),
        opened => answer(asked, &format!("lock of {path}"), opened),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tokens,
    Webhooks,
    Cloudflare,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        match name {
            "tokens" => Some(Self::Tokens),
            "webhooks" => Some(Self::Webhooks),
            "cloudflare" => Some(Self::Cloudflare),
            _ => None,
        }
    }

    /// Opens those; says how many were locked.
    fn open(self, asked: &Asked<'_>, which: Which) -> usize {
        let (limiter, now) = (asked.process.mesh.limiter(), clock::now());
        match self {
            Self::Tokens => limiter.unlock_tokens(now, which),
            Self::Webhooks => limiter.forget_webhooks(now, which),
            Self::Cloudflare => usize::from(limiter.forget_block(now)),
        }
    }
}

fn answer(asked: &Asked<'_>, what: &str, opened: usize) -> Answer {
    if opened > 0 {
        changed(asked, what, &format_args!("{opened} locked"), &"opened");
    }
    json(&serde_json::json!({ "opened": opened }))
}

/// A lock's key as it is shown: no id begins so.
fn key(key: u64) -> String {
    format!("k{key:016x}")
}

fn which(name: &str) -> Option<Which> {
    match name.strip_prefix('k') {
        // No sign, which would be read as well.
        Some(hex) if hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u64::from_str_radix(hex, 16).ok().map(Which::Key)
        }
        Some(_) => None,
        None => number(name).map(Which::Id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_named_by_an_id_or_by_its_key() {
        assert_eq!(
            which("392827169497284619"),
            Some(Which::Id(392_827_169_497_284_619))
        );
        assert_eq!(which(&key(0xfe)), Some(Which::Key(0xfe)));
        assert_eq!(key(0xfe), "k00000000000000fe");
        for odd in [
            "",
            "k",
            "kfe",
            "k000000000000000g",
            "all",
            "-1",
            "k+00000000000000f",
        ] {
            assert_eq!(which(odd), None, "{odd}");
        }
    }
}
