//! Where values come from: a flag, else the environment, else `.env` (or `--env-file`), else the default.
//!
//! Flags are read by clap, `.env` by dotenvy; neither touches the process's environment. An empty
//! variable counts as unset, as it does for nirn-proxy, but still hides the one in `.env`. Reading
//! stops at the first wrong value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::ArgMatches;

use super::setting::{Effect, Setting};
use super::shown::shown;
use super::{Config, LogFormat, effects, ports};

/// A configuration and what should be said about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// One line for each thing that was set and has no effect, or seems misspelt, saying why.
    pub warnings: Vec<String>,
    /// What was set, in the order of `--help`.
    pub given: Vec<GivenSetting>,
    /// Names in `.env` that are no settings.
    pub unknown_in_dot_env: Vec<String>,
}

/// A setting that somebody has set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GivenSetting {
    /// Its variable.
    pub name: &'static str,
    /// Where it was set.
    pub place: Place,
    /// Its value as it may be shown: without secrets.
    pub value: String,
    /// It is what would hold without it.
    pub is_default: bool,
}

/// Where a setting can be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// On the command line.
    Flag,
    /// In the environment.
    Environment,
    /// In `.env`, or in the file that `--env-file` names.
    DotEnv,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::DotEnv => "file",
        })
    }
}

/// Something is wrong with the settings, and how the log that nobody has set up yet would look.
#[derive(Debug)]
pub struct Refused {
    /// What is wrong.
    pub wrong: Wrong,
    /// `LOG_FORMAT`, as far as it is known.
    pub log_format: LogFormat,
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
    /// Two listeners would have one port.
    SamePort {
        /// Where the second was set.
        place: String,
        /// The port.
        port: u16,
        /// The setting of the first.
        other: &'static str,
    },
    /// `.env` is there but cannot be read; or the file that `--env-file` names is not.
    DotEnvUnreadable {
        /// The file, as it was named.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// `.env` is larger than any file of settings.
    DotEnvTooLarge {
        /// The file, as it was named.
        path: PathBuf,
    },
    /// A line of `.env` is not of the form `NAME=value`. The line itself may be a secret.
    DotEnvLine {
        /// The file, as it was named.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
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
            Self::SamePort { place, port, other } => write!(
                f,
                "{place}: {port} is the port of {other}, too; one of them needs another"
            ),
            Self::DotEnvUnreadable { path, source } => {
                write!(f, "{}: cannot be read; {source}", path.display())
            }
            Self::DotEnvTooLarge { path } => write!(
                f,
                "{}: is no file of settings; it has more than {FILE_BYTES_MAX} bytes",
                path.display()
            ),
            Self::DotEnvLine { path, line } => {
                write!(
                    f,
                    "{}: line {line} is not allowed; NAME=value, a comment or nothing",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for Wrong {}

impl Loaded {
    /// The configuration of the `weir` program: `flags` (those that stand first hold), environment,
    /// `.env` in the working directory, defaults.
    ///
    /// # Errors
    /// A setting is wrong, or `.env` cannot be read.
    pub fn from_system(flags: &[&ArgMatches]) -> Result<Self, Refused> {
        let env = |name: &str| std::env::var_os(name);
        let sources = Sources::new(flags, &env);
        let content = sources.read_file().map_err(|wrong| Refused {
            wrong,
            log_format: log_format(&sources),
        })?;
        load(flags, &env, &content)
    }
}

/// The configuration with these settings alone, whatever is wrong with others.
///
/// # Errors
/// One of them is wrong, or the file of settings cannot be read.
pub fn only(flags: &[&ArgMatches], names: &[&str]) -> Result<Config, Refused> {
    let env = |name: &str| std::env::var_os(name);
    let mut sources = Sources::new(flags, &env);
    let read = sources.read_file().and_then(|content| {
        sources.dot_env = dot_env_values(sources.path, &content)?;
        let mut config = Config::default();
        for setting in Setting::all().filter(|setting| names.contains(&setting.name)) {
            if let Some(Given { place, value }) = sources.given(setting) {
                let place = place_of(setting.name, place, sources.path);
                set_or_say(setting, &value, &mut config, &place)?;
            }
        }
        Ok(config)
    });
    read.map_err(|wrong| Refused {
        wrong,
        log_format: log_format(&sources),
    })
}

/// How a log would look, for somebody who says something before there is one.
pub fn early_log_format(flags: &[&ArgMatches]) -> LogFormat {
    log_format(&Sources::new(flags, &|name: &str| std::env::var_os(name)))
}

/// Reads all settings; `dot_env` is the content of the file.
pub(super) fn load(
    flags: &[&ArgMatches],
    env: &dyn Fn(&str) -> Option<OsString>,
    dot_env: &[u8],
) -> Result<Loaded, Refused> {
    let mut sources = Sources::new(flags, env);
    let read = dot_env_values(sources.path, dot_env).and_then(|values| {
        sources.dot_env = values;
        apply_all(&sources)
    });
    read.map_err(|wrong| Refused {
        wrong,
        log_format: log_format(&sources),
    })
}

fn apply_all(sources: &Sources<'_>) -> Result<Loaded, Wrong> {
    let mut loaded = Loaded {
        config: Config::default(),
        warnings: Vec::new(),
        given: Vec::new(),
        unknown_in_dot_env: sources.unknown_in_dot_env(),
    };
    let default = Config::default();
    for setting in Setting::all() {
        let Some(Given { place, value }) = sources.given(setting) else {
            continue;
        };
        let shown_place = place_of(setting.name, place, sources.path);
        apply(setting, &value, &mut loaded, &shown_place)?;
        let mut alone = Config::default();
        let _ = set_in(setting, &value, &mut alone);
        loaded.given.push(GivenSetting {
            name: setting.name,
            place,
            value: if setting.is_secret() {
                "…".to_owned()
            } else {
                shown(&value)
            },
            is_default: alone == default,
        });
    }
    let place = |name: &str| {
        let mut given = loaded.given.iter();
        let given = given.find(|given| given.name == name);
        let place = given.map_or(Place::Environment, |given| given.place);
        place_of(name, place, sources.path)
    };
    ports::all_differ(&loaded.config, &loaded.given, place)?;
    loaded.config.node_tls()?;
    let effects = effects::warnings(&loaded.config, &loaded.given);
    loaded.warnings.extend(effects);
    Ok(loaded)
}

/// Where settings lie if nobody says otherwise.
const DOT_ENV: &str = ".env";

/// Largest file of settings: the longest of them, 4,096 bots with limits, is a tenth of it, and `/dev/zero` has no end.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The flag that says otherwise.
pub(super) const ENV_FILE: &str = "env-file";

/// Everything that values come from.
struct Sources<'s> {
    flags: &'s [&'s ArgMatches],
    env: &'s dyn Fn(&str) -> Option<OsString>,
    dot_env: BTreeMap<String, String>,
    /// Where `dot_env` was read.
    path: &'s Path,
}

/// A value and where it was set.
struct Given {
    place: Place,
    value: String,
}

impl<'s> Sources<'s> {
    /// Without what stands in the file yet.
    fn new(flags: &'s [&'s ArgMatches], env: &'s dyn Fn(&str) -> Option<OsString>) -> Self {
        Self {
            flags,
            env,
            dot_env: BTreeMap::new(),
            path: named(flags).unwrap_or(Path::new(DOT_ENV)),
        }
    }

    /// The file's content; nothing, if nobody named one and there is none.
    fn read_file(&self) -> Result<Vec<u8>, Wrong> {
        match read_bounded(self.path) {
            Ok(content) if content.len() as u64 > FILE_BYTES_MAX => Err(Wrong::DotEnvTooLarge {
                path: self.path.to_owned(),
            }),
            Ok(content) => Ok(content),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && named(self.flags).is_none() =>
            {
                Ok(Vec::new())
            }
            Err(source) => Err(Wrong::DotEnvUnreadable {
                path: self.path.to_owned(),
                source,
            }),
        }
    }

    fn given(&self, setting: &Setting) -> Option<Given> {
        // Bytes that are not UTF-8 become U+FFFD, which no setting but a path allows.
        let text = |value: &OsString| value.to_string_lossy().trim().to_owned();
        // Not every command has every flag.
        let flag = |flags: &&ArgMatches| {
            let value = flags.try_get_one::<OsString>(setting.name).ok()??;
            Some(text(value))
        };
        if let Some(value) = self.flags.iter().find_map(flag) {
            let place = Place::Flag;
            return Some(Given { place, value });
        }
        let given = match (self.env)(setting.name) {
            Some(value) => Given {
                place: Place::Environment,
                value: text(&value),
            },
            None => Given {
                place: Place::DotEnv,
                value: self.dot_env.get(setting.name)?.clone(),
            },
        };
        (!given.value.is_empty()).then_some(given)
    }

    fn unknown_in_dot_env(&self) -> Vec<String> {
        let is_known = |name: &String| Setting::all().any(|setting| setting.name == name);
        let names = self.dot_env.keys();
        names.filter(|name| !is_known(name)).cloned().collect()
    }
}

/// What is in a file, up to one byte more than is allowed.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// The file that `--env-file` names.
fn named<'f>(flags: &[&'f ArgMatches]) -> Option<&'f Path> {
    let mut flags = flags.iter();
    let path = flags.find_map(|flags| flags.try_get_one::<PathBuf>(ENV_FILE).ok()?)?;
    Some(path)
}

/// A place in the words of an error message: `PORT`, `--port (PORT)` or `PORT in .env`.
fn place_of(name: &str, place: Place, dot_env: &Path) -> String {
    match place {
        Place::Flag => {
            let flag = name.to_ascii_lowercase().replace('_', "-");
            format!("--{flag} ({name})")
        }
        Place::Environment => name.to_owned(),
        Place::DotEnv => format!("{name} in {}", dot_env.display()),
    }
}

/// `LOG_FORMAT`, or its default where it is none or wrong itself.
fn log_format(sources: &Sources<'_>) -> LogFormat {
    let mut config = Config::default();
    let setting = Setting::all().find(|setting| setting.name == "LOG_FORMAT");
    if let Some(setting) = setting
        && let Some(given) = sources.given(setting)
    {
        let _ = set_in(setting, &given.value, &mut config);
    }
    config.log_format
}

/// Sets a setting; the error is what is wrong with the value.
fn set_in(setting: &Setting, value: &str, config: &mut Config) -> Result<(), String> {
    let all = |applied: Option<()>| applied.ok_or_else(|| value.to_owned());
    match setting.effect {
        Effect::Sets(apply) | Effect::Switches(apply) => all(apply(config, value)),
        Effect::Lists(apply) => apply(config, value),
        Effect::Ignored(check, _) => all(check(value)),
    }
}

/// [`set_in`], with the line for the person who set it.
fn set_or_say(
    setting: &Setting,
    value: &str,
    config: &mut Config,
    place: &str,
) -> Result<(), Wrong> {
    set_in(setting, value, config).map_err(|wrong| Wrong::Value {
        place: place.to_owned(),
        value: shown(&wrong),
        allowed: setting.allowed,
    })
}

fn apply(setting: &Setting, value: &str, to: &mut Loaded, place: &str) -> Result<(), Wrong> {
    set_or_say(setting, value, &mut to.config, place)?;
    if let Effect::Ignored(_, why) = setting.effect {
        to.warnings.push(format!("{place} has no effect: {why}"));
    }
    Ok(())
}

/// The values of a `.env` file; of a name that stands twice, the first holds, as dotenvy has it.
fn dot_env_values(path: &Path, content: &[u8]) -> Result<BTreeMap<String, String>, Wrong> {
    let unreadable = |source| Wrong::DotEnvUnreadable {
        path: path.to_owned(),
        source,
    };
    let mut values = BTreeMap::new();
    for pair in dotenvy::from_read_iter(content) {
        match pair {
            Ok((name, value)) => {
                values
                    .entry(name)
                    .or_insert_with(|| value.trim().to_owned());
            }
            Err(dotenvy::Error::LineParse(line, _)) => {
                return Err(Wrong::DotEnvLine {
                    path: path.to_owned(),
                    line: line_number(content, line.as_bytes()),
                });
            }
            Err(dotenvy::Error::Io(error)) => return Err(unreadable(error)),
            Err(error) => return Err(unreadable(io::Error::other(error))),
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
