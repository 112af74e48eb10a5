//! The commands of the `weir` program, and its words: what is typed, what is printed, how it ends.
//!
//! ```text
//! weir [serve]  ─▶ Start::Serve: main serves
//! weir check    ─▶ check: the same settings, the same connections, step by step, on stdout
//! weir status   ─▶ status: what a running weir says of itself on its metrics port
//! weir top      ─▶ the same, each second
//! ```
//! Every command reads settings by the loader that serves ([`Loaded::from_system`]), and connects by
//! the same code; none has a second opinion. [`command`] is what `--help`, the manual page and the
//! completions of shells are made of; [`texts`] what they say beside it.

pub mod check;
mod status;
pub mod texts;

use std::io::{self, IsTerminal, Write};

use clap::{ArgMatches, Command};

use crate::admin::log;
use crate::config::{self, Loaded, LogFormat, LogLevel, Refused};
use crate::systemd;

/// Exit status for a wrong setting or flag; clap's own.
pub const EXIT_USAGE: u8 = 2;

/// What the program is to do.
pub enum Start {
    /// Serve, with these settings.
    Serve(Box<Loaded>),
    /// End with this status: all that was asked for has been done.
    End(u8),
}

/// Reads the command line and carries out whatever is not serving.
pub fn begin() -> Start {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return Start::End(usage(&error)),
    };
    let (name, of_command) = match matches.subcommand() {
        Some((name, of_command)) => (name, Some(of_command)),
        None => ("serve", None),
    };
    // A flag may stand before the command or behind it.
    let flags: Vec<&ArgMatches> = of_command.into_iter().chain([&matches]).collect();
    match name {
        "status" => Start::End(status::run(&flags)),
        "top" => Start::End(status::top(&flags)),
        "check" => Start::End(match Loaded::from_system(&flags) {
            Ok(loaded) => check::run(&loaded),
            Err(refused) => refuse(&refused),
        }),
        _ => match Loaded::from_system(&flags) {
            Ok(loaded) => Start::Serve(Box::new(loaded)),
            Err(refused) => Start::End(refuse(&refused)),
        },
    }
}

/// The commands, flags and words of the program.
pub fn command() -> Command {
    let serve = Command::new("serve").about("Serve; the same as no command at all");
    let check = Command::new("check")
        .about(
            "Look over the settings, reach the upstream step by step, and try what a start needs",
        )
        .after_help(texts::check_help());
    let look = Command::new("status")
        .about("Print how a running weir stands, by its metrics port")
        .after_help(texts::status_help());
    let top = Command::new("top")
        .about("The same, each second: on a terminal a screen, else a line")
        .after_help(texts::top_help());
    let root = Command::new("weir")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Discord REST rate-limit proxy for fleets of bots")
        .next_line_help(true)
        .max_term_width(texts::WIDTH_MAX)
        .after_help(texts::short_help())
        .after_long_help(texts::long_help())
        .subcommand(config::arguments(serve).next_line_help(true))
        .subcommand(config::arguments(check).next_line_help(true))
        .subcommand(status::arguments(look).next_line_help(true))
        .subcommand(status::arguments_of_top(top).next_line_help(true));
    config::arguments(root)
}

/// Prints help, the version or what is wrong with the flags; returns the status to exit with.
fn usage(error: &clap::Error) -> u8 {
    let status = u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE);
    let format = config::early_log_format(&[]);
    if status != 0 && format == LogFormat::Json {
        let text = error.to_string();
        // The lines behind it tell where help is, which a collector of logs has no use for.
        let first = text.lines().next().unwrap_or_default();
        complain(first.strip_prefix("error: ").unwrap_or(first), format);
    } else {
        // If even stderr is gone, the status is all that can be said.
        drop(error.print());
    }
    status
}

/// Says in one line what is wrong with a setting.
fn refuse(refused: &Refused) -> u8 {
    complain(&refused.wrong.to_string(), refused.log_format);
    EXIT_USAGE
}

/// One line on stderr, in the form of the log that is to be, for whoever collects that.
fn complain(line: &str, format: LogFormat) {
    let journal = systemd::is_journal(&io::stderr());
    if format == LogFormat::Json && log::start(LogLevel::Error, format, journal).is_ok() {
        tracing::error!("{line}");
    } else {
        let priority = if journal { "<3>" } else { "" };
        drop(writeln!(io::stderr(), "{priority}weir: {line}"));
    }
}

/// Whether what is printed on stdout may have colours: it is a terminal, and nobody has set
/// [`NO_COLOR`](https://no-color.org).
fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests;
