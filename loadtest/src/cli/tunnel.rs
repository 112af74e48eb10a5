//! `loadtest tunnel`: what a tunnel of the forward proxy costs beside a bare relay.

use std::io;
use std::time::Duration;

use loadtest::tunnel::{self, Options};

/// Measures the CPU time of bytes and of messages through weir's forward proxy against a relay that
/// does nothing but relay. Needs two cores that have nothing else to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds; medians are taken over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Seconds that each sample is measured.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Connections at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Bytes of a message.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    message: u32,
}

pub(super) fn run(args: &Args) -> io::Result<()> {
    let all = tunnel::run(&Options {
        rounds: args.rounds.into(),
        measured: Duration::try_from_secs_f64(args.seconds).map_err(io::Error::other)?,
        connections: args.connections.into(),
        message_bytes: args.message as usize,
    })?;
    super::say(tunnel::markdown(&all).trim_end())
}
