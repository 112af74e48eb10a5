//! `REDIS_…`: where a fleet of forward proxies shares its counts, and what holds when it is gone.

use std::fmt;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::Config;
use super::setting::{Effect, Setting, millis, number, set};

/// The port that Redis has by itself.
const PORT: u16 = 6379;

/// Default of `REDIS_MAX_LIFETIME`. dprl's program has 5 minutes, which for it is also the longest that
/// a connection is counted for; weir renews what is open, so a minute is long enough not to lose count
/// when Redis is away for a moment, and a crashed proxy's places are back that much sooner.
pub(super) const MAX_LIFETIME: Duration = Duration::from_secs(60);
/// What `REDIS_MAX_LIFETIME` may be: not less than a counter can be renewed within, not more than a
/// day, for which nobody waits to have places back.
const MAX_LIFETIME_MS: RangeInclusive<u64> = 1_000..=86_400_000;

/// Default of `REDIS_TIMEOUT`: many times what an answer takes between machines that share a rack or a
/// region, and less than a client waits for a connection.
pub(super) const TIMEOUT: Duration = Duration::from_millis(500);
/// What `REDIS_TIMEOUT` may be: below 10 ms a busy machine alone looks like a dead Redis, above 10 s
/// clients have left.
const TIMEOUT_MS: RangeInclusive<u64> = 10..=10_000;

/// Default of `REDIS_SCAN_INTERVAL`: a dprl that starts is seen within this; a scan of a million keys
/// takes a few hundred milliseconds of Redis' time, in pieces.
pub(super) const SCAN_INTERVAL: Duration = Duration::from_secs(5);
/// What `REDIS_SCAN_INTERVAL` may be besides 0.
const SCAN_INTERVAL_MS: RangeInclusive<u64> = 100..=3_600_000;

/// Highest number of a database: Redis counts them in an `int`.
const DB_MAX: u32 = i32::MAX.cast_unsigned();

/// What a fleet of forward proxies needs to know of its Redis.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedisSettings {
    /// Where it is.
    pub address: RedisAddress,
    /// The user of Redis' ACL; `None` for `default`.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// The database, from 0.
    pub db: u32,
    /// What holds while Redis cannot be asked.
    pub fail: RedisFail,
    /// For how long a counter stays in Redis that nobody renews: after a crash its places are taken for
    /// as long. dprl's `maxLifetime`.
    pub max_lifetime: Duration,
    /// How long Redis may take to answer.
    pub timeout: Duration,
    /// How often somebody of the fleet looks for workers of dprl; `None` for never.
    pub scan_interval: Option<Duration>,
}

impl RedisSettings {
    /// All defaults, for a Redis at `address`.
    pub fn new(address: RedisAddress) -> Self {
        Self {
            address,
            username: None,
            password: None,
            db: 0,
            fail: RedisFail::Local,
            max_lifetime: MAX_LIFETIME,
            timeout: TIMEOUT,
            scan_interval: Some(SCAN_INTERVAL),
        }
    }
}

/// `REDIS_FAIL`: what holds while Redis cannot be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RedisFail {
    /// No new connections, as with dprl.
    Closed,
    /// New connections without any cap.
    Open,
    /// As many as this proxy's part of the cap, an even one.
    Local,
}

/// Where Redis is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RedisAddress {
    /// A host, an IPv6 address without brackets, and a port.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Something that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What it is.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// `REDIS_ADDR`, with what a URL says beside the address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedisUrl {
    /// Where it is.
    pub address: RedisAddress,
    /// The user named in it.
    pub username: Option<String>,
    /// The password given in it.
    pub password: Option<Secret>,
    /// The database named in it.
    pub db: Option<u32>,
}

/// The text names no Redis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotARedis;

impl FromStr for RedisUrl {
    type Err = NotARedis;

    /// `host`, `host:port`, `redis://[[user]:password@]host[:port][/db]` or `unix:///path`.
    fn from_str(text: &str) -> Result<Self, NotARedis> {
        if let Some(path) = text.strip_prefix("unix://") {
            let address = RedisAddress::Unix(path.into());
            return if path.starts_with('/') {
                Ok(Self::at(address))
            } else {
                Err(NotARedis)
            };
        }
        let Some(rest) = text.strip_prefix("redis://") else {
            return Ok(Self::at(tcp(text)?));
        };
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (Some(credentials), rest),
            None => (None, rest),
        };
        let (authority, db) = match rest.split_once('/') {
            Some((authority, "")) => (authority, None),
            Some((authority, db)) => (authority, Some(database(db).ok_or(NotARedis)?)),
            None => (rest, None),
        };
        let mut url = Self::at(tcp(authority)?);
        url.db = db;
        if let Some(credentials) = credentials {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            let (user, password) = (decoded(user)?, decoded(password)?);
            url.username = (!user.is_empty()).then_some(user);
            url.password = (!password.is_empty()).then_some(Secret(password));
        }
        Ok(url)
    }
}

impl RedisUrl {
    fn at(address: RedisAddress) -> Self {
        Self {
            address,
            username: None,
            password: None,
            db: None,
        }
    }
}

fn tcp(authority: &str) -> Result<RedisAddress, NotARedis> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(NotARedis)?;
            host.parse::<Ipv6Addr>().map_err(|_| NotARedis)?;
            match port {
                "" => (host, None),
                _ => (host, Some(port.strip_prefix(':').ok_or(NotARedis)?)),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if host.is_empty() || !host.chars().all(is_host) {
        return Err(NotARedis);
    }
    let port = match port {
        None => PORT,
        Some(port) => number(port).filter(|port| *port > 0).ok_or(NotARedis)?,
    };
    Ok(RedisAddress::Tcp(host.to_owned(), port))
}

/// Text with its `%41`s decoded (RFC 3986 2.1).
fn decoded(text: &str) -> Result<String, NotARedis> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or(NotARedis)?;
        let digits = str::from_utf8(digits).map_err(|_| NotARedis)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NotARedis);
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| NotARedis)?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| NotARedis)
}

fn database(text: &str) -> Option<u32> {
    number(text).filter(|db| *db <= DB_MAX)
}

impl Config {
    /// Where the forward proxy's counts are shared; `None` if they are this process's alone. What is
    /// set by a variable of its own holds over what `REDIS_ADDR` says of it.
    pub fn redis(&self) -> Option<RedisSettings> {
        let url = self.redis_addr.clone()?;
        Some(RedisSettings {
            address: url.address,
            username: self.redis_username.clone().or(url.username),
            password: self.redis_password.clone().or(url.password),
            db: self.redis_db.or(url.db).unwrap_or(0),
            fail: self.redis_fail,
            max_lifetime: self.redis_max_lifetime,
            timeout: self.redis_timeout,
            scan_interval: self.redis_scan_interval,
        })
    }
}

pub(super) const REDIS: &[Setting] = &[
    Setting {
        name: "REDIS_ADDR",
        help: "Redis that forward proxies share their caps through; unset, each counts for itself",
        default: "",
        allowed: "host:port, redis://user:password@host:port/db or unix:///path; Redis over TLS is not spoken",
        effect: Effect::Sets(|c, v| set(&mut c.redis_addr, Some(Some(v.parse().ok()?)))),
    },
    Setting {
        name: "REDIS_USERNAME",
        help: "User of Redis' ACL; unset, its default one",
        default: "",
        allowed: "a name",
        effect: Effect::Sets(|c, v| set(&mut c.redis_username, Some(Some(v.to_owned())))),
    },
    Setting {
        name: "REDIS_PASSWORD",
        help: "Password for Redis",
        default: "",
        allowed: "a password",
        effect: Effect::Sets(|c, v| set(&mut c.redis_password, Some(Some(v.into())))),
    },
    Setting {
        name: "REDIS_DB",
        help: "Database in Redis; unset, the one that REDIS_ADDR names, or 0",
        default: "",
        allowed: "a number 0 to 2147483647",
        effect: Effect::Sets(|c, v| set(&mut c.redis_db, Some(Some(database(v)?)))),
    },
    Setting {
        name: "REDIS_FAIL",
        help: "New connections while Redis is away: closed for none, open for any, local for an even share of each cap",
        default: "local",
        allowed: "closed, open or local",
        effect: Effect::Sets(|c, v| set(&mut c.redis_fail, fail(v))),
    },
    Setting {
        name: "REDIS_MAX_LIFETIME",
        help: "Milliseconds after which Redis forgets what a proxy that crashed had open; open connections are renewed",
        default: "60000",
        allowed: "milliseconds 1000 to 86400000",
        effect: Effect::Sets(|c, v| set(&mut c.redis_max_lifetime, millis(v, MAX_LIFETIME_MS))),
    },
    Setting {
        name: "REDIS_TIMEOUT",
        help: "Milliseconds Redis has to answer; then it counts as away",
        default: "500",
        allowed: "milliseconds 10 to 10000",
        effect: Effect::Sets(|c, v| set(&mut c.redis_timeout, millis(v, TIMEOUT_MS))),
    },
    Setting {
        name: "REDIS_SCAN_INTERVAL",
        help: "Milliseconds between looks for proxies of dprl in the fleet; 0 if there are none",
        default: "5000",
        allowed: "milliseconds 100 to 3600000, or 0",
        effect: Effect::Sets(|c, v| {
            let interval = if v == "0" {
                None
            } else {
                Some(millis(v, SCAN_INTERVAL_MS)?)
            };
            set(&mut c.redis_scan_interval, Some(interval))
        }),
    },
];

fn fail(value: &str) -> Option<RedisFail> {
    match value.to_ascii_lowercase().as_str() {
        "closed" => Some(RedisFail::Closed),
        "open" => Some(RedisFail::Open),
        "local" => Some(RedisFail::Local),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> RedisUrl {
        RedisUrl::at(RedisAddress::Tcp(host.to_owned(), port))
    }

    #[test]
    fn an_address_is_dprls_or_a_url() {
        for (text, expected) in [
            ("127.0.0.1:6379", tcp("127.0.0.1", 6379)),
            ("redis", tcp("redis", 6379)),
            ("[::1]:7", tcp("::1", 7)),
            ("redis://r.example", tcp("r.example", 6379)),
            ("redis://r.example:7/", tcp("r.example", 7)),
            (
                "redis://:p%40s%2f@r:7/3",
                RedisUrl {
                    password: Some("p@s/".into()),
                    db: Some(3),
                    ..tcp("r", 7)
                },
            ),
            (
                "redis://me:p:w@r",
                RedisUrl {
                    username: Some("me".to_owned()),
                    password: Some("p:w".into()),
                    ..tcp("r", 6379)
                },
            ),
            (
                "unix:///run/redis.sock",
                RedisUrl::at(RedisAddress::Unix("/run/redis.sock".into())),
            ),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in [
            "",
            ":6379",
            "redis:0",
            "redis:x",
            "redis:65536",
            "redis:+1",
            "::1",
            "[::1",
            "[::1]7",
            "[redis]:7",
            "rediss://redis",
            "http://redis",
            "redis://r/x",
            "redis://r/2147483648",
            "redis://a:%4@r",
            "redis://a:%+1@r",
            "redis://a:%ff@r",
            "unix://run",
            "a b",
        ] {
            assert_eq!(text.parse::<RedisUrl>(), Err(NotARedis), "{text}");
        }
    }

    #[test]
    fn a_variable_of_its_own_holds_over_the_url_and_no_password_is_printed() {
        let mut config = Config {
            redis_addr: Some("redis://u:hidden@r/3".parse().unwrap()),
            ..Config::default()
        };
        let settings = config.redis().unwrap();
        assert_eq!((settings.db, settings.username.as_deref()), (3, Some("u")));
        assert_eq!(settings.password.as_ref().unwrap().reveal(), "hidden");
        assert!(!format!("{config:?}{settings:?}").contains("hidden"));
        config.redis_db = Some(0);
        config.redis_password = Some("other".into());
        let settings = config.redis().unwrap();
        assert_eq!(settings.db, 0);
        assert_eq!(settings.password, Some("other".into()));
        assert_eq!(Config::default().redis(), None);
    }

    #[test]
    fn an_address_is_shown_as_it_is_written() {
        for text in ["r.example:7", "[::1]:7", "unix:///run/redis.sock"] {
            let url: RedisUrl = text.parse().unwrap();
            assert_eq!(url.address.to_string(), text);
        }
    }
}
