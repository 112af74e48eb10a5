//! The flags of settings, with their help.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, Command};

use super::setting::{Effect, SETTINGS, Setting};
use super::source::ENV_FILE;

/// The flag that names the file of settings.
pub fn env_file() -> Arg {
    Arg::new(ENV_FILE)
        .long(ENV_FILE)
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("File with settings, a NAME=value on each line, to read in place of .env in the working directory")
}

/// The program's flags for settings, with their help.
pub fn arguments(command: Command) -> Command {
    let mut command = command.arg(env_file());
    for (heading, settings) in SETTINGS {
        for setting in *settings {
            command = command.arg(argument(setting).help_heading(*heading));
        }
    }
    command
}

/// What somebody who has never seen weir looks for first: all that `-h` shows.
const FIRST: [&str; 6] = [
    "PORT",
    "BIND_IP",
    "ALLOW_FROM",
    "STATE_FILE",
    "LOG_LEVEL",
    "METRICS_PORT",
];

fn argument(setting: &Setting) -> Arg {
    let mut help = format!("{} [env: {}]", setting.help, setting.name);
    if !setting.default.is_empty() {
        help += &format!(" [default: {}]", setting.default);
    }
    // The unit says as much of a file or a switch.
    let allowed = match setting.unit() {
        "FILE" | "BOOL" => String::new(),
        _ => format!("\nAllowed: {}", setting.allowed),
    };
    let argument = Arg::new(setting.name)
        .long(setting.flag())
        .value_name(setting.unit())
        .allow_hyphen_values(true)
        .value_parser(clap::value_parser!(OsString))
        .hide_short_help(!FIRST.contains(&setting.name))
        .long_help(format!("{help}{allowed}"))
        .help(help);
    match setting.effect {
        Effect::Switches(_) => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        Effect::Sets(_) | Effect::Lists(_) | Effect::Ignored(..) => argument,
    }
}
