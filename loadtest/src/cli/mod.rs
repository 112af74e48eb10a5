//! The subcommands.

mod cluster_sim;
mod compare;
mod demo;
mod handoff;
mod load;
mod mock;
mod pictures;
mod scale;
mod sim;
mod soak;
mod tunnel;

use std::io;

use clap::{Parser, Subcommand};

/// A mock Discord with an oracle, and the load that drives weir against it.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a mock Discord until stdin closes.
    Mock(mock::Args),
    /// Load a server on a loopback address and print what came of it.
    Load(load::Args),
    /// Run weir's limiter and three reference limiters against a simulated Discord.
    Sim(sim::Args),
    /// Run nodes of a cluster, and what befalls them, against a simulated Discord.
    ClusterSim(cluster_sim::Args),
    /// Show bots, weir and a mock Discord at work for some seconds.
    Demo(demo::Args),
    /// Compare weir with nginx, haproxy and a bare byte relay.
    Compare(compare::Args),
    /// Measure what a request costs as load, connections, buckets, bodies and workers grow.
    Scale(scale::Args),
    /// Measure deciding in place against pure messages between two workers.
    Handoff(handoff::Args),
    /// Measure a tunnel of the forward proxy against a bare relay.
    Tunnel(tunnel::Args),
    /// Run weir under load, faults and churn, and look for anything wrong, lost, stuck or leaked.
    Soak(soak::Args),
    /// Draw a run's pictures.
    Pictures(pictures::Args),
    #[command(hide = true)]
    Part(compare::PartArgs),
}

pub(crate) fn run(cli: Cli) -> io::Result<()> {
    match cli.command {
        Command::Mock(args) => mock::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::ClusterSim(args) => cluster_sim::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Scale(args) => scale::run(&args),
        Command::Handoff(args) => handoff::run(&args),
        Command::Tunnel(args) => tunnel::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Pictures(args) => pictures::run(&args),
        Command::Part(args) => compare::run_part(&args),
    }
}

/// Prints one line; a closed stdout is an error, not a panic.
fn say(text: &str) -> io::Result<()> {
    use std::io::Write;
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
