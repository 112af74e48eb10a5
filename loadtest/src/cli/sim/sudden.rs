//! What `loadtest sim` shows of refusals' truth and of Discord's surprises.

use std::io;
use std::time::Duration;

use weir::sim::{self, Report, SURPRISES, WAITS};

use super::{Complaints, excuses, seconds};
use crate::cli::say;

/// Seeds of each kind of wait, and of each surprise.
const TRUTH_SEEDS: u64 = 150;
const SURPRISE_SEEDS: u64 = 20;

/// What a client is told that would not wait, beside when its patient twin went.
pub(super) fn truth(complaints: &mut Complaints) -> io::Result<()> {
    say("\nrefusals: the wait that is told, within 5 % or 50 ms of when a patient twin goes")?;
    for wait in WAITS {
        let runs = (0..TRUTH_SEEDS).filter_map(|seed| Some((sim::truth(wait, seed)?, seed)));
        let runs: Vec<_> = runs.collect();
        let wrong = runs.iter().filter(|(told, _)| !told.is_true()).count();
        let worst = runs.iter().max_by_key(|(told, _)| {
            let grain = Duration::from_millis(1_000);
            told.error().as_nanos() / told.waited.max(grain).as_millis().max(1)
        });
        let worst = worst.map_or_else(String::new, |(told, seed)| {
            let (told, waited) = (seconds(told.told), seconds(told.waited));
            format!("told {told}, went after {waited} (seed {seed})")
        });
        let part = 100.0 - wrong as f64 * 100.0 / runs.len().max(1) as f64;
        let scope = match wait.least {
            0 => "  shown only".to_owned(),
            least => format!("  at least {least} %"),
        };
        say(&format!(
            "  {:38} {part:6.2} % of {:3}, worst: {worst}{scope}",
            wait.name,
            runs.len()
        ))?;
        complaints.expect(wait.allows(wrong, runs.len()), || {
            format!("a refusal's wait for {}: {wrong} wrong, {worst}", wait.name)
        });
    }
    Ok(())
}

/// What Discord does now and then without a word.
pub(super) fn surprises(complaints: &mut Complaints) -> io::Result<()> {
    say("\nsurprises")?;
    for surprise in SURPRISES {
        let mut all = Report::default();
        for seed in 0..SURPRISE_SEEDS {
            let report = surprise.run(seed);
            let complaint = surprise.complaint(&report);
            complaints.expect(complaint.is_none(), || {
                let complaint = complaint.unwrap_or_default();
                format!("{}, seed {seed}: {complaint}", surprise.name)
            });
            all.add(&report);
        }
        let (shown, excuses) = (&all.shown, excuses(&all));
        let costs = [
            (shown.avoidable(), "avoidable 429s"),
            (shown.blocked, "asked of Cloudflare"),
            (shown.failed, "5xx"),
            (shown.hiccups, "401s in passing"),
            (all.refused, "refused"),
        ];
        let costs = costs.iter().filter(|(count, _)| *count > 0);
        let costs = costs.map(|(count, name)| format!(", {name} {count}"));
        let excuses = if excuses.is_empty() { "no" } else { &excuses };
        say(&format!(
            "  {}: {} sent, {excuses} 429s{}; wait p99 {}, most {}",
            surprise.name,
            all.sent,
            costs.collect::<String>(),
            seconds(all.wait(99)),
            seconds(all.wait(100))
        ))?;
    }
    Ok(())
}
