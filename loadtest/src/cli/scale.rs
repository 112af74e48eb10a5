//! `loadtest scale`: what a request costs as something grows.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use loadtest::compare::scale::{self, Options, Series};
use loadtest::compare::{Peer, new_folder};

/// Measures CPU time per request and latency as load, connections, tracked buckets, bodies and
/// workers grow, at 5, 50 and 100 % of load. About five minutes a round on two cores.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds; medians are taken over them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Seconds that each sample is measured.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// What grows.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Series::ALL)]
    series: Vec<Series>,
    /// Leave out values above this, for a short run.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    most: u64,
    /// Who takes part.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::ALL)]
    peers: Vec<Peer>,
    /// The weir under test, instead of the one of this build.
    #[arg(long, value_name = "FILE")]
    weir: Option<PathBuf>,
    /// Where the files go, instead of a new folder under benches/runs.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> io::Result<()> {
    let options = Options {
        rounds: args.rounds.into(),
        measured: Duration::try_from_secs_f64(args.seconds).map_err(io::Error::other)?,
        series: args.series.clone(),
        most: args.most,
        peers: args.peers.clone(),
        weir: args.weir.clone(),
    };
    let report = scale::run(&options, |text| {
        // Progress that nobody can see is no reason to stop.
        let _ = writeln!(io::stderr(), "{text}");
    })?;
    super::say(&report.markdown())?;
    let folder = args.out.clone().unwrap_or_else(new_folder);
    report.write(&folder)?;
    super::say(&format!("written to {}", folder.display()))
}
