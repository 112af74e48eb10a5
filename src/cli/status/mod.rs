//! `weir status` and `weir top`: how a running weir stands, read from its metrics port.
//!
//! Both ask for the document that the status page shows (`/nirn/status.json`, [`crate::status`]) and lay it
//! out as text. What is counted since the start becomes a rate by looking twice.

mod ask;
mod screen;
mod terminal;
mod text;
mod top;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::thread;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use crate::config::{self, Refused};

use ask::Weir;
use screen::{Screen, paint};

/// The time between the two looks of `weir status`: long enough for a rate, short enough to wait for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// The settings that say where the metrics port is.
const WHERE: [&str; 2] = ["BIND_IP", "METRICS_PORT"];

const AT: &str = "at";
const COUNT: &str = "count";

/// The flags of both.
pub(super) fn arguments(command: Command) -> Command {
    command.arg(config::env_file()).arg(
        Arg::new(AT)
            .long(AT)
            .value_name("HOST:PORT")
            .help("Metrics port of the weir to ask [default: METRICS_PORT on this machine]"),
    )
}

/// The flags of `top`.
pub(super) fn arguments_of_top(command: Command) -> Command {
    arguments(command).arg(
        Arg::new(COUNT)
            .long(COUNT)
            .value_name("N")
            .value_parser(clap::value_parser!(u64).range(1..))
            .help("End after so many looks; else on Ctrl-C"),
    )
}

/// Prints how weir stands; returns the status to exit with.
pub(super) fn run(flags: &[&ArgMatches]) -> u8 {
    let weir = match weir(flags) {
        Ok(weir) => weir,
        Err(status) => return status,
    };
    let looks = weir.look().and_then(|first| {
        thread::sleep(BETWEEN_LOOKS);
        Ok((first, weir.look()?))
    });
    match looks {
        Ok((first, now)) => {
            let mut screen = Screen::default();
            screen.see(first);
            screen.see(now);
            let columns = terminal::size().map_or(texts_width(), |(columns, _)| columns);
            let colours = super::colours();
            let mut out = io::stdout().lock();
            for line in screen.lines(columns) {
                // Whoever closed the pipe has seen enough.
                drop(writeln!(out, "{}", paint(&line, colours)));
            }
            0
        }
        Err(error) => {
            drop(writeln!(io::stderr(), "weir: {error}"));
            1
        }
    }
}

/// Shows how weir stands each second; returns the status to exit with.
pub(super) fn top(flags: &[&ArgMatches]) -> u8 {
    match weir(flags) {
        Ok(weir) => {
            let count = flags
                .iter()
                .find_map(|flags| flags.try_get_one::<u64>(COUNT).ok()?);
            top::run(&weir, count.copied())
        }
        Err(status) => status,
    }
}

/// Columns where nobody says how many there are.
const fn texts_width() -> usize {
    super::texts::WIDTH_MAX
}

/// The weir that is meant; the error is the status to exit with, once it is told why.
fn weir(flags: &[&ArgMatches]) -> Result<Weir, u8> {
    let mut at = flags.iter();
    if let Some(at) = at.find_map(|flags| flags.try_get_one::<String>(AT).ok()?) {
        return Weir::named(at).ok_or_else(|| {
            super::complain(
                &format!("--at: {at:?} is not allowed; host:port of a weir's metrics port"),
                config::early_log_format(flags),
            );
            super::EXIT_USAGE
        });
    }
    let config = config::only(flags, &WHERE).map_err(|refused: Refused| super::refuse(&refused))?;
    if config.metrics_port == 0 {
        let line =
            "METRICS_PORT is 0, so weir took a free port; --at names it, the log has told it";
        super::complain(line, config::early_log_format(flags));
        return Err(super::EXIT_USAGE);
    }
    let ip = match config.bind_ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(Weir::at(ip, config.metrics_port))
}
