//! One connection to Redis: blocking, and never for longer than it was told.

use std::fmt;
use std::time::Duration;

use redis::{
    Client, Cmd, Connection, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    Pipeline, RedisConnectionInfo, RedisError, ServerErrorKind, Value,
};

use crate::clock;
use crate::config::{RedisAddress, RedisSettings};

use super::script::{self, Caller, Nonsense};
use super::{book::Op, keys};

/// A connection that is set up: authenticated, in its database, with the scripts loaded.
pub(super) struct Link {
    connection: Connection,
    timeout: Duration,
    scripts: Scripts,
    caller: Caller,
    times: script::Times,
}

/// The scripts' digests.
struct Scripts {
    write: String,
    hello: String,
    found: String,
}

/// Why there is no connection, or no more.
#[derive(Debug)]
pub enum LinkError {
    /// Redis asks for a password, or does not take this one.
    Password(RedisError),
    /// Redis does not let this user do what is needed.
    Permission(RedisError),
    /// There is no such database.
    Database(RedisError),
    /// It is part of a cluster, whose members refuse scripts that make up names of keys.
    Cluster,
    /// It did not answer in time.
    Timeout,
    /// It answered something that is none.
    Nonsense,
    /// It could not be reached, or said that it cannot now.
    Failed(RedisError),
}

impl LinkError {
    /// The setting that is to blame.
    pub fn setting(&self) -> &'static str {
        match self {
            Self::Password(_) => "REDIS_PASSWORD",
            Self::Permission(_) => "REDIS_USERNAME",
            Self::Database(_) => "REDIS_DB",
            Self::Cluster | Self::Timeout | Self::Nonsense | Self::Failed(_) => "REDIS_ADDR",
        }
    }

    /// Whether somebody has to change a setting, here or there, before it can be better.
    pub fn is_a_mistake(&self) -> bool {
        match self {
            Self::Password(_) | Self::Permission(_) | Self::Database(_) | Self::Cluster => true,
            Self::Timeout | Self::Nonsense | Self::Failed(_) => false,
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password(error) => {
                write!(
                    f,
                    "REDIS_PASSWORD or REDIS_USERNAME is wrong or missing; {error}"
                )
            }
            Self::Permission(error) => write!(
                f,
                "the user may not do what is needed: scripts, INFO, SCAN and the keys proxy_rate_limiter:* and weir:*; {error}"
            ),
            Self::Database(error) => write!(f, "REDIS_DB is not there; {error}"),
            Self::Cluster => f.write_str(
                "it is part of a cluster, where counters of one host would lie on different nodes",
            ),
            Self::Timeout => f.write_str("no answer within REDIS_TIMEOUT"),
            Self::Nonsense => f.write_str("it answers what no Redis answers"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<Nonsense> for LinkError {
    fn from(_: Nonsense) -> Self {
        Self::Nonsense
    }
}

impl From<RedisError> for LinkError {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            _ if error.is_timeout() => Self::Timeout,
            ErrorKind::AuthenticationFailed => Self::Password(error),
            ErrorKind::Server(ServerErrorKind::NoPerm) => Self::Permission(error),
            _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => Self::Password(error),
            _ if error.is_cluster_error() => Self::Cluster,
            // What the client says of a `SELECT` that was refused.
            _ if error.to_string().contains("switch database") => Self::Database(error),
            _ => Self::Failed(error),
        }
    }
}

/// What a round came to.
pub(super) enum Round {
    /// The answers, one for each command.
    Answered(Vec<Value>),
    /// Redis has lost the scripts; they are loaded again, and the round counts as lost.
    ScriptsGone,
}

impl Link {
    /// Connects and sets up; for worker `me`, whose connection number `epoch` this is.
    pub(super) fn open(
        settings: &RedisSettings,
        times: script::Times,
        me: &str,
        epoch: u64,
    ) -> Result<Self, LinkError> {
        let client = Client::open(info(settings)?)?;
        let connection = client.get_connection_with_timeout(settings.timeout)?;
        connection.set_write_timeout(Some(settings.timeout))?;
        let mut link = Self {
            connection,
            timeout: settings.timeout,
            scripts: Scripts {
                write: String::new(),
                hello: String::new(),
                found: String::new(),
            },
            caller: Caller {
                me: me.into(),
                epoch_key: keys::epoch(me),
                epoch,
                run: String::new(),
            },
            times,
        };
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let answers = link.ask(&[info])?;
        let [Value::BulkString(text)] = answers.as_slice() else {
            return Err(LinkError::Nonsense);
        };
        let text = str::from_utf8(text).map_err(|_| LinkError::Nonsense)?;
        let line = |name| text.lines().find_map(|line| line.strip_prefix(name));
        if line("redis_mode:").is_some_and(|mode| mode.trim() == "cluster") {
            return Err(LinkError::Cluster);
        }
        link.caller.run = line("run_id:")
            .ok_or(LinkError::Nonsense)?
            .trim()
            .to_owned();
        link.load()?;
        Ok(link)
    }

    /// Loads the scripts.
    fn load(&mut self) -> Result<(), LinkError> {
        let load = |script: &str| {
            let mut cmd = redis::cmd("SCRIPT");
            cmd.arg("LOAD").arg(script);
            cmd
        };
        let scripts = [script::WRITE, script::HELLO, script::FOUND].map(load);
        let digests = self.ask(&scripts)?;
        let digests: Vec<String> = digests.iter().filter_map(digest).collect();
        let Ok([write, hello, found]) = <[String; 3]>::try_from(digests) else {
            return Err(LinkError::Nonsense);
        };
        self.scripts = Scripts {
            write,
            hello,
            found,
        };
        Ok(())
    }

    pub(super) fn write(&self, op: &Op) -> Cmd {
        script::write(&self.scripts.write, &self.caller, &self.times, op)
    }

    pub(super) fn hello(&self, enter: bool) -> Cmd {
        script::hello(&self.scripts.hello, &self.caller, &self.times, enter)
    }

    pub(super) fn found(&self, workers: &std::collections::BTreeSet<String>) -> Cmd {
        script::found(&self.scripts.found, workers)
    }

    pub(super) fn claim_scan(&self, interval: Duration) -> Cmd {
        script::claim_scan(&self.caller.me, interval)
    }

    /// Sends all commands at once and reads all answers, within the timeout.
    ///
    /// # Errors
    /// Then nobody knows which of them were carried out, and the link must not be used any more.
    pub(super) fn round(&mut self, cmds: &[Cmd]) -> Result<Round, LinkError> {
        let answers = self.exchange(cmds)?;
        let mut scripts_gone = false;
        for answer in &answers {
            let Value::ServerError(error) = answer else {
                continue;
            };
            if error.kind() != Some(ServerErrorKind::NoScript) {
                return Err(RedisError::from(error.clone()).into());
            }
            scripts_gone = true;
        }
        if scripts_gone {
            self.load()?;
            return Ok(Round::ScriptsGone);
        }
        Ok(Round::Answered(answers))
    }

    /// A round without calls of scripts.
    fn ask(&mut self, cmds: &[Cmd]) -> Result<Vec<Value>, LinkError> {
        let answers = self.exchange(cmds)?;
        match answers.iter().find_map(|answer| match answer {
            Value::ServerError(error) => Some(error.clone()),
            _ => None,
        }) {
            Some(error) => Err(RedisError::from(error).into()),
            None => Ok(answers),
        }
    }

    fn exchange(&mut self, cmds: &[Cmd]) -> Result<Vec<Value>, LinkError> {
        let until = clock::now() + self.timeout;
        let mut pipeline = Pipeline::with_capacity(cmds.len());
        for cmd in cmds {
            pipeline.add_command(cmd.clone());
        }
        self.connection
            .send_packed_command(&pipeline.get_packed_pipeline())?;
        let mut answers = Vec::with_capacity(cmds.len());
        // Answer by answer, since the crate's own reading of many waits its time for each of them.
        for _ in cmds {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Err(LinkError::Timeout);
            }
            self.connection.set_read_timeout(Some(left))?;
            answers.push(self.connection.recv_response()?);
        }
        Ok(answers)
    }

    /// Takes this worker's traces away.
    pub(super) fn farewell(mut self, counters: &[String]) -> Result<(), LinkError> {
        let cmds = script::farewell(&self.caller, counters);
        self.ask(&cmds).map(drop)
    }
}

fn digest(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    }
}

fn info(settings: &RedisSettings) -> Result<ConnectionInfo, RedisError> {
    let address = match &settings.address {
        RedisAddress::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
        RedisAddress::Unix(path) => ConnectionAddr::Unix(path.clone()),
    };
    let mut redis = RedisConnectionInfo::default()
        .set_db(i64::from(settings.db))
        .set_skip_set_lib_name();
    if let Some(username) = &settings.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = &settings.password {
        redis = redis.set_password(password.reveal());
    }
    Ok(address.into_connection_info()?.set_redis_settings(redis))
}
