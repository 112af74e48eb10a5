//! The identify queue in numbers.

use std::collections::BTreeMap;

use super::OTHER;
use super::text::{Family, Kind, Seconds};
use crate::identify::{Census, Reason, WAIT_BUCKETS};

/// Bots with samples of their own, those with most waiting first; the others are one: a fleet's, at two
/// samples each.
const BOTS_MAX: usize = 256;

/// Appends what can be told about the identify queue to `out`, in the text format 0.0.4.
pub fn encode_starts(census: &Census, out: &mut String) {
    by_bot(census, out);
    let granted = Family {
        name: "weir_identify_granted_total",
        help: "Shards that the identify queue let go",
        kind: Kind::Counter,
    };
    granted.head(out);
    granted.sample(out, "", &[], census.granted);
    let refused = Family {
        name: "weir_identify_refused_total",
        help: "Shards that the identify queue did not let in, or that waited too long",
        kind: Kind::Counter,
    };
    refused.head(out);
    for (reason, count) in Reason::ALL.into_iter().zip(census.refused) {
        refused.sample(out, "", &[("reason", reason.label())], count);
    }
    waits(census, out);
}

fn waits(census: &Census, out: &mut String) {
    let family = Family {
        name: "weir_identify_wait_seconds",
        help: "Seconds that shards waited in the identify queue before they were let go",
        kind: Kind::Histogram,
    };
    family.head(out);
    let mut sum = 0;
    for (at, count) in census.waits.counts.into_iter().enumerate() {
        sum += count;
        let le = WAIT_BUCKETS.get(at).map(u32::to_string);
        let le = le.as_deref().unwrap_or("+Inf");
        family.sample(out, "_bucket", &[("le", le)], sum);
    }
    family.sample(out, "_sum", &[], Seconds(census.waits.micros));
    family.sample(out, "_count", &[], sum);
}

fn by_bot(census: &Census, out: &mut String) {
    let mut bots = census.bots.clone();
    bots.sort_unstable_by_key(|bot| (std::cmp::Reverse(bot.waiting), bot.client.key()));
    let mut sums: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for (at, bot) in bots.iter().enumerate() {
        let label = if at < BOTS_MAX {
            bot.client.to_string()
        } else {
            OTHER.to_owned()
        };
        // Two spellings of a token are two queues of one label.
        let sum = sums.entry(label).or_default();
        sum.0 += bot.waiting;
        sum.1 += u64::from(bot.remaining);
    }
    let waiting = Family {
        name: "weir_identify_waiting",
        help: "Shards of a bot that wait in the identify queue now",
        kind: Kind::Gauge,
    };
    waiting.head(out);
    for (label, (count, _)) in &sums {
        waiting.sample(out, "", &[("client", label)], count);
    }
    let left = Family {
        name: "weir_identify_budget_remaining",
        help: "Session starts (IDENTIFY) that a bot has left today, as far as is known",
        kind: Kind::Gauge,
    };
    left.head(out);
    for (label, (_, remaining)) in &sums {
        left.sample(out, "", &[("client", label)], remaining);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::{BotCensus, Waits};
    use crate::route::identity::Client;

    #[test]
    fn the_queue_is_written_by_bot_with_a_histogram() {
        let bot = |id, waiting| BotCensus {
            client: Client::Bot(id),
            waiting,
            remaining: 10,
        };
        let mut census = Census {
            waiting: 8,
            granted: 3,
            refused: [4, 3, 2, 1],
            waits: Waits::default(),
            bots: vec![bot(5, 2), bot(6, 3), bot(5, 3)],
        };
        census.waits.counts[0] = 2;
        census.waits.counts[WAIT_BUCKETS.len()] = 1;
        census.waits.micros = 1_500_000;
        let mut text = String::new();
        encode_starts(&census, &mut text);
        for line in [
            "weir_identify_waiting{client=\"5\"} 5",
            "weir_identify_budget_remaining{client=\"5\"} 20",
            "weir_identify_granted_total 3",
            "weir_identify_refused_total{reason=\"wait_too_long\"} 4",
            "weir_identify_wait_seconds_bucket{le=\"1\"} 2",
            "weir_identify_wait_seconds_bucket{le=\"7200\"} 2",
            "weir_identify_wait_seconds_bucket{le=\"+Inf\"} 3",
            "weir_identify_wait_seconds_sum 1.500000",
            "weir_identify_wait_seconds_count 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn bots_beyond_the_bound_are_one() {
        let bots = (0..1_000).map(|id| BotCensus {
            client: Client::Bot(id + 3),
            waiting: 1 + (id == 999) as usize,
            remaining: 1,
        });
        let census = Census {
            waiting: 1_001,
            granted: 0,
            refused: [0; 4],
            waits: Waits::default(),
            bots: bots.collect(),
        };
        let mut text = String::new();
        encode_starts(&census, &mut text);
        let samples = text.matches("\nweir_identify_waiting{").count();
        assert_eq!(samples, BOTS_MAX + 1);
        assert!(text.contains("weir_identify_waiting{client=\"1002\"} 2\n"));
        assert!(text.contains("weir_identify_waiting{client=\"other\"} 744\n"));
    }
}
