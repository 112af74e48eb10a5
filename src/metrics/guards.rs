//! What protects the egress address, in numbers.

use super::text::{Family, Kind, Seconds};
use crate::limit::Guarded;

/// Appends how the guards stand to `out`, in the text format 0.0.4.
pub fn encode_guards(guarded: &Guarded, out: &mut String) {
    let gauge = |name, help| Family {
        name,
        help,
        kind: Kind::Gauge,
    };
    gauge(
        "weir_invalid_budget_used",
        "Answers of the last ten minutes that Discord counts as invalid requests of this egress address",
    )
    .one(out, guarded.invalid);
    gauge(
        "weir_invalid_budget_limit",
        "Invalid requests in ten minutes at which weir stops sending, short of the 10000 that get the \
         address banned",
    )
    .one(out, guarded.invalid_max);
    let blocked = guarded.blocked_for;
    gauge(
        "weir_cloudflare_blocked",
        "1 while nothing is sent because Cloudflare blocks this egress address, else 0",
    )
    .one(out, u8::from(blocked.is_some()));
    let left = blocked.map_or(0, |left| {
        u64::try_from(left.as_micros()).unwrap_or(u64::MAX)
    });
    gauge(
        "weir_cloudflare_block_remaining_seconds",
        "Time until one request goes to find out whether Cloudflare still blocks this egress address",
    )
    .one(out, Seconds(left));
    gauge(
        "weir_webhooks_dead",
        "Webhooks that Discord said do not exist, whose requests are answered with 404 here",
    )
    .one(out, guarded.webhooks_dead);
    Family {
        name: "weir_guard_events_total",
        help: "What the guards did: tokens locked after a 401, refused once more when tried again, let go \
               again; webhooks found dead; Cloudflare's block began, went on when it was tried again, ended",
        kind: Kind::Counter,
    }
    .by(
        out,
        "event",
        &[
            ("token_locked", guarded.tokens.locked),
            ("token_refused_again", guarded.tokens.refused_again),
            ("token_released", guarded.tokens.released),
            ("webhook_dead", guarded.webhooks_died),
            ("cloudflare_block_began", guarded.blocks.began),
            ("cloudflare_block_went_on", guarded.blocks.went_on),
            ("cloudflare_block_ended", guarded.blocks.ended),
        ],
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Blocks, Locks};
    use std::time::Duration;

    #[test]
    fn each_guard_stands_under_its_own_name() {
        let guarded = Guarded {
            invalid: 1,
            invalid_max: 2,
            blocked_for: Some(Duration::from_millis(3_500)),
            webhooks_dead: 4,
            webhooks_died: 5,
            blocks: Blocks {
                began: 6,
                went_on: 7,
                ended: 8,
            },
            tokens: Locks {
                locked: 9,
                refused_again: 10,
                released: 11,
            },
        };
        let mut text = String::new();
        encode_guards(&guarded, &mut text);
        for line in [
            "weir_invalid_budget_used 1",
            "weir_invalid_budget_limit 2",
            "weir_cloudflare_blocked 1",
            "weir_cloudflare_block_remaining_seconds 3.500000",
            "weir_webhooks_dead 4",
            "weir_guard_events_total{event=\"webhook_dead\"} 5",
            "weir_guard_events_total{event=\"cloudflare_block_began\"} 6",
            "weir_guard_events_total{event=\"cloudflare_block_went_on\"} 7",
            "weir_guard_events_total{event=\"cloudflare_block_ended\"} 8",
            "weir_guard_events_total{event=\"token_locked\"} 9",
            "weir_guard_events_total{event=\"token_refused_again\"} 10",
            "weir_guard_events_total{event=\"token_released\"} 11",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
