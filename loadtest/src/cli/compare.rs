//! `loadtest compare`: weir beside its peers.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use loadtest::compare::{self, Options, Peer, UpstreamKind, relay, upstream};

/// Loads weir, nginx, haproxy and a bare byte relay in turn, each pinned to one core, and prints
/// what each request cost them. Peers whose program is not installed are left out.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds; medians are taken over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Seconds that each sample is measured.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Who takes part.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Peer::ALL)]
    peers: Vec<Peer>,
    /// Connections of the closed loops.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 8, 256])]
    connections: Vec<usize>,
    /// Connections of the idle scenario.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Requests after which the upstream ends a connection in the churn: with the default, 99.95 % can
    /// find an open one.
    #[arg(long, default_value_t = 2000)]
    life: u64,
    /// Only these scenarios, such as closed-64, open-5 or idle-10000.
    #[arg(long, value_delimiter = ',', value_name = "SCENARIO")]
    only: Vec<String>,
    /// Who answers.
    #[arg(long, value_enum, default_value_t)]
    upstream: UpstreamKind,
    /// The weir under test, instead of the one of this build.
    #[arg(long, value_name = "FILE")]
    weir: Option<PathBuf>,
    /// Decides the order of peers in each round.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the files go, instead of a new folder under benches/runs.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> io::Result<()> {
    let options = Options {
        rounds: args.rounds.into(),
        measured: Duration::try_from_secs_f64(args.seconds).map_err(io::Error::other)?,
        peers: args.peers.clone(),
        connections: args.connections.clone(),
        idle: args.idle,
        life: args.life,
        only: args.only.clone(),
        upstream: args.upstream,
        weir: args.weir.clone(),
        seed: args.seed,
    };
    let report = compare::run(&options, |text| {
        // Progress that nobody can see is no reason to stop.
        let _ = writeln!(io::stderr(), "{text}");
    })?;
    super::say(&report.markdown())?;
    let folder = args.out.clone().unwrap_or_else(compare::new_folder);
    report.write(&folder)?;
    super::say(&format!("written to {}", folder.display()))
}

/// A part of a comparison that runs as a process of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct PartArgs {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// The upstream.
    Upstream,
    /// The floor.
    Relay {
        /// Where it relays to.
        #[arg(long)]
        upstream: std::net::SocketAddr,
    },
}

pub(super) fn run_part(args: &PartArgs) -> io::Result<()> {
    match args.part {
        Part::Upstream => upstream::serve(io::stdout().lock()),
        Part::Relay { upstream } => {
            let listener = relay::listen()?;
            super::say(&serde_json::to_string(&listener.local_addr()?)?)?;
            relay::serve(&listener, upstream)
        }
    }
}
