//! `loadtest handoff`: what it costs that a bucket lives on another worker.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use loadtest::compare::new_folder;
use loadtest::handoff::{self, Options};

/// Measures two workers that share the limiter in place, under its shards' locks, against two that
/// send each other messages, at 5, 50 and 100 % of load, with buckets on both and on one. Needs two
/// cores that have nothing else to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds; medians are taken over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Seconds that each sample is measured.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Where the files go, instead of a new folder under benches/runs.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> io::Result<()> {
    let results = handoff::run(&Options {
        rounds: args.rounds.into(),
        measured: Duration::try_from_secs_f64(args.seconds).map_err(io::Error::other)?,
    })?;
    super::say(&results.markdown())?;
    let folder = args.out.clone().unwrap_or_else(new_folder);
    results.write(&folder)?;
    super::say(&format!("written to {}", folder.display()))
}
