//! `loadtest soak`: weir under load, faults and churn.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use loadtest::soak::{self, Options};

/// Runs a weir process of two workers before a mock Discord that breaks in every way it can, with
/// clients and tokens that come and go, and asserts that nothing is lost, mixed up, sent twice,
/// refused upstream, stuck or leaked. Exits with 1, the reasons and the seed if anything is.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long there is load, in minutes.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Decides faults, churn and requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests a second at most.
    #[arg(long, default_value_t = 1_500.0)]
    rate: f64,
    /// weir's `IO_DRIVER`.
    #[arg(long, default_value = "auto", value_parser = ["auto", "io_uring", "epoll"])]
    driver: String,
    /// The weir under test, instead of the one of this build.
    #[arg(long, value_name = "FILE")]
    weir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> io::Result<()> {
    let options = Options {
        length: Duration::try_from_secs_f64(args.minutes * 60.0).map_err(io::Error::other)?,
        seed: args.seed,
        rate: args.rate,
        driver: args.driver.clone(),
        weir: args.weir.clone(),
    };
    let mut told = Ok(());
    let report = soak::run(&options, |line| {
        if told.is_ok() {
            told = super::say(line);
        }
    })?;
    told?;
    super::say(&report.to_string())?;
    let wrongs = report.wrongs();
    if wrongs.is_empty() {
        return Ok(());
    }
    let (count, seed) = (wrongs.len(), args.seed);
    let list = wrongs.join("\n  ");
    Err(io::Error::other(format!(
        "{count} things are wrong with seed {seed}:\n  {list}"
    )))
}
