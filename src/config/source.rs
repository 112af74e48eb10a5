//! Where values come from: a flag, else the environment, else `.env`, else the default.
//!
//! Flags are read by clap, `.env` by dotenvy; neither touches the process's environment. An empty
//! variable counts as unset, as it does for nirn-proxy, but still hides the one in `.env`. Reading
//! stops at the first wrong value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};

use clap::{Arg, ArgMatches, Command};

use super::Config;
use super::bounds::SHOWN_VALUE_BYTES_MAX;
use super::setting::{Effect, SETTINGS, Setting};

/// Exit status for a wrong setting or flag; clap's own.
const EXIT_USAGE: u8 = 2;

/// A configuration and what should be said about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// One line for each setting that was given and has no effect, saying why.
    pub warnings: Vec<String>,
}

/// Why the program ends before it starts.
#[derive(Debug)]
pub enum Stop {
    /// A flag that does not exist, or `--help` or `--version`, whose text it is.
    Usage(Box<clap::Error>),
    /// A setting that is wrong.
    Wrong(Wrong),
}

impl Stop {
    /// Prints what is to be said, on stdout if it was asked for and else on stderr, and returns
    /// the status to exit with: 0 for help and version, 2 for an error.
    pub fn report(&self) -> u8 {
        // If even stderr is gone, the status is all that can be said.
        match self {
            Self::Usage(error) => {
                drop(error.print());
                u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE)
            }
            Self::Wrong(wrong) => {
                drop(writeln!(io::stderr(), "weir: {wrong}"));
                EXIT_USAGE
            }
        }
    }
}

/// A setting that is wrong. Its `Display` is one line for the person who set it.
#[derive(Debug)]
pub enum Wrong {
    /// A value is not allowed.
    Value {
        /// Where it was set: `PORT`, `--port (PORT)` or `PORT in .env`.
        place: String,
        /// The value, without credentials.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// `.env` is there but cannot be read.
    DotEnvUnreadable(io::Error),
    /// A line of `.env` is not of the form `NAME=value`. The line itself may be a secret.
    DotEnvLine(usize),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value {
                place,
                value,
                allowed,
            } => {
                write!(f, "{place}: {value:?} is not allowed; {allowed}")
            }
            Self::DotEnvUnreadable(error) => write!(f, ".env: cannot be read; {error}"),
            Self::DotEnvLine(line) => {
                write!(
                    f,
                    ".env: line {line} is not allowed; NAME=value, a comment or nothing"
                )
            }
        }
    }
}

impl std::error::Error for Wrong {}

impl Config {
    /// The configuration of the `weir` program: flags, environment, `.env` in the working
    /// directory, defaults.
    ///
    /// # Errors
    ///
    /// [`Stop`] for a wrong setting, and for `--help` and `--version`; the program should
    /// [report](Stop::report) it and exit.
    pub fn from_env_and_args() -> Result<Loaded, Stop> {
        let dot_env = match std::fs::read(".env") {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Stop::Wrong(Wrong::DotEnvUnreadable(error))),
        };
        load(std::env::args_os(), |name| std::env::var_os(name), &dot_env)
    }
}

/// Reads all settings; `args` starts with the program's name, `dot_env` is the file's content.
pub(super) fn load(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
    dot_env: &[u8],
) -> Result<Loaded, Stop> {
    let flags = command()
        .try_get_matches_from(args)
        .map_err(|e| Stop::Usage(Box::new(e)))?;
    let dot_env = dot_env_values(dot_env).map_err(Stop::Wrong)?;
    let mut loaded = Loaded {
        config: Config::default(),
        warnings: Vec::new(),
    };
    let mut metrics_port_place = "METRICS_PORT".to_owned();
    let mut queue_port_place = "GATEWAY_QUEUE_PORT".to_owned();
    for setting in SETTINGS.iter().flat_map(|(_, settings)| *settings) {
        let Some(Given { place, value }) = given(setting, &flags, &env, &dot_env) else {
            continue;
        };
        apply(setting, &value, &mut loaded, &place).map_err(Stop::Wrong)?;
        match setting.name {
            "METRICS_PORT" => metrics_port_place = place,
            "GATEWAY_QUEUE_PORT" => queue_port_place = place,
            _ => {}
        }
    }
    let Config {
        enable_metrics,
        metrics_port,
        port,
        gateway_queue_port,
        ..
    } = loaded.config;
    if enable_metrics && metrics_port == port && port != 0 {
        return Err(Stop::Wrong(Wrong::Value {
            place: metrics_port_place,
            value: metrics_port.to_string(),
            allowed: "a port other than PORT",
        }));
    }
    if let Some(queue_port) = gateway_queue_port
        && queue_port != 0
        && (queue_port == port || enable_metrics && queue_port == metrics_port)
    {
        return Err(Stop::Wrong(Wrong::Value {
            place: queue_port_place,
            value: queue_port.to_string(),
            allowed: "a port other than PORT and METRICS_PORT",
        }));
    }
    loaded.config.node_tls().map_err(Stop::Wrong)?;
    Ok(loaded)
}

/// The program's flags, with their help.
pub(super) fn command() -> Command {
    let mut command = Command::new("weir")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Discord REST rate-limit proxy for fleets of bots")
        .next_line_help(true)
        .after_help(
            "Each setting can be a flag, an environment variable or a line in .env, in this order \
             of precedence.",
        );
    for (heading, settings) in SETTINGS {
        for setting in *settings {
            command = command.arg(argument(setting).help_heading(*heading));
        }
    }
    command
}

fn argument(setting: &Setting) -> Arg {
    let mut help = format!("{} [env: {}]", setting.help, setting.name);
    if !setting.default.is_empty() {
        help += &format!(" [default: {}]", setting.default);
    }
    let argument = Arg::new(setting.name)
        .long(setting.flag())
        .value_name("VALUE")
        .allow_hyphen_values(true)
        .value_parser(clap::value_parser!(OsString))
        .help(help);
    match setting.effect {
        Effect::Switches(_) => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        Effect::Sets(_) | Effect::Lists(_) | Effect::Ignored(..) => argument,
    }
}

/// A value and where it was set, in the words of an error message.
struct Given {
    place: String,
    value: String,
}

fn given(
    setting: &Setting,
    flags: &ArgMatches,
    env: impl Fn(&str) -> Option<OsString>,
    dot_env: &BTreeMap<String, String>,
) -> Option<Given> {
    let name = setting.name;
    // Bytes that are not UTF-8 become U+FFFD, which no setting but a path allows.
    let text = |value: &OsString| value.to_string_lossy().trim().to_owned();
    if let Some(value) = flags.get_one::<OsString>(name) {
        return Some(Given {
            place: format!("--{} ({name})", setting.flag()),
            value: text(value),
        });
    }
    let given = match env(name) {
        Some(value) => Given {
            place: name.to_owned(),
            value: text(&value),
        },
        None => Given {
            place: format!("{name} in .env"),
            value: dot_env.get(name)?.clone(),
        },
    };
    (!given.value.is_empty()).then_some(given)
}

fn apply(setting: &Setting, value: &str, to: &mut Loaded, place: &str) -> Result<(), Wrong> {
    let all = |applied: Option<()>| applied.ok_or_else(|| value.to_owned());
    let applied = match setting.effect {
        Effect::Sets(apply) | Effect::Switches(apply) => all(apply(&mut to.config, value)),
        Effect::Lists(apply) => apply(&mut to.config, value),
        Effect::Ignored(check, why) => {
            to.warnings.push(format!("{place} has no effect: {why}"));
            all(check(value))
        }
    };
    applied.map_err(|wrong| Wrong::Value {
        place: place.to_owned(),
        value: shown(&wrong),
        allowed: setting.allowed,
    })
}

/// A value as it may be printed: short, and without the credentials that a URL can carry, or a token
/// that was put into the wrong place.
fn shown(value: &str) -> String {
    let value = &without_tokens(value);
    let value = match (value.split_once("://"), value.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => value.to_owned(),
    };
    if value.len() <= SHOWN_VALUE_BYTES_MAX {
        return value;
    }
    let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= SHOWN_VALUE_BYTES_MAX;
    let start: String = value
        .char_indices()
        .take_while(fits)
        .map(|(_, c)| c)
        .collect();
    start + "…"
}

/// A value with `…` for what may be a token of Discord's: a bot's has three parts between dots, the last
/// of 27 characters or more, a webhook's or an interaction's none and 60 or more.
fn without_tokens(value: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let is_token = |word: &str| {
        let last = word.rsplit('.').next().unwrap_or(word).len();
        last >= 60 || last >= 27 && word.matches('.').count() >= 2
    };
    let mut shown = String::with_capacity(value.len());
    for piece in value.split_inclusive(|c| !is_part(c)) {
        let word = piece.trim_end_matches(|c| !is_part(c));
        shown.push_str(if is_token(word) { "…" } else { word });
        shown.push_str(&piece[word.len()..]);
    }
    shown
}

/// The values of a `.env` file; of a name that stands twice, the first holds, as dotenvy has it.
fn dot_env_values(content: &[u8]) -> Result<BTreeMap<String, String>, Wrong> {
    let mut values = BTreeMap::new();
    for pair in dotenvy::from_read_iter(content) {
        match pair {
            Ok((name, value)) => {
                values
                    .entry(name)
                    .or_insert_with(|| value.trim().to_owned());
            }
            Err(dotenvy::Error::LineParse(line, _)) => {
                return Err(Wrong::DotEnvLine(line_number(content, line.as_bytes())));
            }
            Err(dotenvy::Error::Io(error)) => return Err(Wrong::DotEnvUnreadable(error)),
            Err(error) => return Err(Wrong::DotEnvUnreadable(io::Error::other(error))),
        }
    }
    Ok(values)
}

/// Which line of `content` starts as `wrong` does, from 1.
fn line_number(content: &[u8], wrong: &[u8]) -> usize {
    let first = wrong
        .split(|&b| b == b'\n')
        .next()
        .unwrap_or(wrong)
        .trim_ascii();
    let lines = content.split(|&b| b == b'\n');
    lines
        .map(<[u8]>::trim_ascii)
        .position(|line| line == first)
        .map_or(1, |before| before + 1)
}
