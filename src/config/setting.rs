//! The table of settings: name, help, default, what is allowed and what it sets.
//!
//! One row is the flag, the environment variable, the line of `--help` and the error message, so
//! that they cannot disagree.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::bounds::{self, TIMEOUT_MS, TIMEOUT_OR_ZERO_MS};
use super::buckets::default_buckets;
use super::cluster;
use super::forward::FORWARD;
use super::gateway::GATEWAY;
use super::redis::REDIS;
use super::upstream::is_host_name;
use super::{AccessLog, AllowFrom, Config, IoDriver, LogFormat, LogLevel, UpstreamUrl, admin};

/// One thing that can be decided.
pub(super) struct Setting {
    /// The environment variable. The flag is the same in lower case with dashes.
    pub(super) name: &'static str,
    /// What it is for, for `--help`.
    pub(super) help: &'static str,
    /// The default as one would write it; empty for none.
    pub(super) default: &'static str,
    /// What a value must be, to follow "is not allowed;".
    pub(super) allowed: &'static str,
    /// What a value does.
    pub(super) effect: Effect,
}

/// What a value does. Functions answer `None` for a value that is not allowed.
pub(super) enum Effect {
    /// It sets something.
    Sets(fn(&mut Config, &str) -> Option<()>),
    /// It sets something that is a list; for a wrong list, the function answers what in it is wrong.
    Lists(fn(&mut Config, &str) -> Result<(), String>),
    /// As `Sets`, and the flag may stand without a value, meaning `true`.
    Switches(fn(&mut Config, &str) -> Option<()>),
    /// It is checked, and has no effect for the reason given.
    Ignored(fn(&str) -> Option<()>, &'static str),
}

impl Setting {
    /// The long flag, without dashes in front.
    pub(super) fn flag(&self) -> String {
        self.name.to_ascii_lowercase().replace('_', "-")
    }

    /// What a value is, in one word for `--help`.
    pub(super) fn unit(&self) -> &'static str {
        const UNITS: [(&str, &str); 6] = [
            ("milliseconds", "MS"),
            ("a port number", "PORT"),
            ("a number", "N"),
            (PATH_ALLOWED, "FILE"),
            ("an IP address", "IP"),
            (BOOL_ALLOWED, "BOOL"),
        ];
        let known = UNITS
            .iter()
            .find(|(what, _)| self.allowed.starts_with(what));
        match (known, &self.effect) {
            (Some((_, unit)), _) => unit,
            (None, _) if self.is_secret() => "SECRET",
            (None, Effect::Lists(_)) => "LIST",
            (None, _) => "VALUE",
        }
    }

    /// Whether its value is never shown.
    pub(super) fn is_secret(&self) -> bool {
        ["_TOKEN", "_SECRET", "_PASSWORD"]
            .iter()
            .any(|end| self.name.ends_with(end))
    }

    /// Every one of the table.
    pub(super) fn all() -> impl Iterator<Item = &'static Self> {
        SETTINGS.iter().flat_map(|(_, settings)| *settings)
    }
}

/// The settings by the headings of `--help`.
pub(super) const SETTINGS: &[(&str, &[Setting])] = &[
    ("Serving clients", SERVING),
    ("Discord", DISCORD),
    ("Limits", LIMITS),
    ("Identify queue", GATEWAY),
    ("Cluster", CLUSTER),
    ("Forward proxy", FORWARD),
    ("Redis, for forward proxies that share their caps", REDIS),
    ("State and lifecycle", LIFECYCLE),
    ("Logs and metrics", LOGS),
    ("Accepted for nirn-proxy, without effect", IGNORED),
];

const SERVING: &[Setting] = &[
    Setting {
        name: "BIND_IP",
        help: "Address to serve clients and metrics on",
        default: "0.0.0.0",
        allowed: "an IP address such as 127.0.0.1 or ::",
        effect: Effect::Sets(|c, v| set(&mut c.bind_ip, parse(v))),
    },
    Setting {
        name: "PORT",
        help: "Port for clients; 0 takes a free one",
        default: "8080",
        allowed: PORT_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.port, port(v))),
    },
    Setting {
        name: "ALLOW_FROM",
        help: "Addresses and networks that may connect, separated by commas; unset, all",
        default: "",
        allowed: "addresses and networks, at most 1024, such as 10.0.0.0/8,127.0.0.1,fd00::/8",
        effect: Effect::Lists(|c, v| {
            c.allow_from = v.parse::<AllowFrom>().map_err(|wrong| wrong.0)?;
            Ok(())
        }),
    },
    Setting {
        name: "TLS_CERT_FILE",
        help: "PEM file with the certificate to show clients, and its chain; unset, plain HTTP is spoken",
        default: "",
        allowed: PATH_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.tls_cert_file, path(v))),
    },
    Setting {
        name: "TLS_KEY_FILE",
        help: "PEM file with the private key of TLS_CERT_FILE",
        default: "",
        allowed: PATH_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.tls_key_file, path(v))),
    },
    Setting {
        name: "TLS_CLIENT_CA_FILE",
        help: "PEM file with the authorities that must have signed a client's certificate; unset, none is asked for",
        default: "",
        allowed: PATH_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.tls_client_ca_file, path(v))),
    },
    Setting {
        name: "MAX_CONNECTIONS",
        help: "Client connections at a time; more are refused",
        default: "65536",
        allowed: "a number 1 to 1048576",
        effect: Effect::Sets(|c, v| {
            set(
                &mut c.max_connections,
                count(v, 1..=bounds::CONNECTIONS_MAX),
            )
        }),
    },
    Setting {
        name: "MAX_CONNECTIONS_PER_CLIENT",
        help: "Client connections from one address (of IPv6, one /64); more are refused; 0 for no bound",
        default: "0",
        allowed: "a number 0 to 1048576",
        effect: Effect::Sets(|c, v| {
            let most = count(v, 0..=bounds::CONNECTIONS_MAX)?;
            set(
                &mut c.max_connections_per_client,
                Some((most > 0).then_some(most)),
            )
        }),
    },
    Setting {
        name: "CLIENT_HEADER_TIMEOUT",
        help: "Milliseconds a client has to send a request's head, and to begin its first one",
        default: "10000",
        allowed: TIMEOUT_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.client_header_timeout, millis(v, TIMEOUT_MS))),
    },
    Setting {
        name: "CLIENT_IDLE_TIMEOUT",
        help: "Milliseconds a client's connection may be silent between requests, or a body make no progress",
        default: "75000",
        allowed: TIMEOUT_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.client_idle_timeout, millis(v, TIMEOUT_MS))),
    },
    Setting {
        name: "CLIENT_MIN_RATE",
        help: "Bytes a second that a client sends of a body and takes of an answer at the least; who falls behind by CLIENT_IDLE_TIMEOUT is cut off; 0 for no bound",
        default: "1024",
        allowed: "a number 0 to 1073741824",
        effect: Effect::Sets(|c, v| set(&mut c.client_min_rate, rate(v))),
    },
];

const DISCORD: &[Setting] = &[
    Setting {
        name: "UPSTREAM_URL",
        help: "Where requests go",
        default: "https://discord.com",
        allowed: "https:// or http://, a host and perhaps a port, without a path",
        effect: Effect::Sets(|c, v| set(&mut c.upstream, v.parse::<UpstreamUrl>().ok())),
    },
    Setting {
        name: "UPSTREAM_CA_FILE",
        help: "PEM file with the only certificates to trust for the upstream, instead of Mozilla's",
        default: "",
        allowed: PATH_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.upstream_ca_file, path(v))),
    },
    Setting {
        name: "OUTBOUND_IP",
        help: "Local address to connect to the upstream from",
        default: "",
        allowed: "an IP address of this machine, such as 192.0.2.1",
        effect: Effect::Sets(|c, v| set(&mut c.outbound_ip, Some(Some(outbound(v)?)))),
    },
    Setting {
        name: "REQUEST_TIMEOUT",
        help: "Milliseconds the upstream has to answer; the time waiting for a limit is not in it",
        default: "5000",
        allowed: TIMEOUT_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.request_timeout, millis(v, TIMEOUT_MS))),
    },
    Setting {
        name: "UPSTREAM_MAX_CONNECTIONS",
        help: "Upstream connections of each worker",
        default: "512",
        allowed: "a number 1 to 28232",
        effect: Effect::Sets(|c, v| {
            set(
                &mut c.upstream_max_connections,
                count(v, 1..=bounds::UPSTREAM_CONNECTIONS_MAX),
            )
        }),
    },
    Setting {
        name: "UPSTREAM_IDLE_TIMEOUT",
        help: "Milliseconds an unused upstream connection is kept",
        default: "60000",
        allowed: TIMEOUT_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.upstream_idle_timeout, millis(v, TIMEOUT_MS))),
    },
];

const LIMITS: &[Setting] = &[
    Setting {
        name: "BOT_RATELIMIT_OVERRIDES",
        help: "Global limits of bots, as user id:requests a second, separated by commas",
        default: "",
        allowed: "pairs of a bot's user id and a limit 1 to 50000, each bot once, such as 392827169497284619:100,227115752396685313:80",
        effect: Effect::Lists(|c, v| {
            c.bot_ratelimit_overrides = overrides(v)?;
            Ok(())
        }),
    },
    Setting {
        name: "DISABLE_GLOBAL_RATELIMIT_DETECTION",
        help: "Never ask /gateway/bot for a bot's global limit",
        default: "false",
        allowed: BOOL_ALLOWED,
        effect: Effect::Switches(|c, v| set(&mut c.disable_global_ratelimit_detection, boolean(v))),
    },
    Setting {
        name: "DISABLE_401_LOCK",
        help: "Go on sending for a token that Discord refused",
        default: "false",
        allowed: BOOL_ALLOWED,
        effect: Effect::Switches(|c, v| set(&mut c.disable_401_lock, boolean(v))),
    },
    Setting {
        name: "RETRIES",
        help: "How often a request that Discord answered with 429 is sent again; 0 passes every answer on",
        default: "1",
        allowed: "a number 0 to 10",
        effect: Effect::Sets(|c, v| set(&mut c.retries, retries(v))),
    },
    Setting {
        name: "RETRY_SHARED",
        help: "Send again, beyond RETRIES, while a limit shared with others refuses",
        default: "true",
        allowed: BOOL_ALLOWED,
        effect: Effect::Switches(|c, v| set(&mut c.retry_shared, boolean(v))),
    },
    Setting {
        name: "MAX_WAIT",
        help: "Milliseconds a request may wait for a limit; 429 at once if it would be longer; 0 for no bound",
        default: "0",
        allowed: "milliseconds 0 to 3600000",
        effect: Effect::Sets(|c, v| {
            let wait = millis(v, TIMEOUT_OR_ZERO_MS)?;
            set(&mut c.max_wait, Some((!wait.is_zero()).then_some(wait)))
        }),
    },
    Setting {
        name: "ALLOW_CONCURRENT_REQUESTS",
        help: "Requests that change something need not wait for each other's answer; their order is then not kept",
        default: "false",
        allowed: BOOL_ALLOWED,
        effect: Effect::Switches(|c, v| set(&mut c.allow_concurrent_requests, boolean(v))),
    },
    Setting {
        name: "DEFAULT_BUCKET",
        help: "Requests of unknown routes that go at once, for each bot and channel, guild or webhook",
        default: "1",
        allowed: "a number 1 to 1000",
        effect: Effect::Sets(|c, v| set(&mut c.default_bucket, default_bucket(v))),
    },
    Setting {
        name: "DEFAULT_BUCKETS",
        help: "Requests of an unknown route that go at once, by route, as METHOD /path=N, separated by commas; ! in a path stands for any id",
        default: "",
        allowed: "routes as METHOD /path=N, each once, at most 256, such as POST /channels/!/messages=5: one of GET, HEAD, POST, PUT, PATCH and DELETE, a path without /api and with ! for every id, a number 1 to 65535",
        effect: Effect::Lists(|c, v| {
            c.default_buckets = default_buckets(v).map_err(str::to_owned)?;
            Ok(())
        }),
    },
    Setting {
        name: "MAX_WAITING_PER_BUCKET",
        help: "Requests that may wait for one bucket; more are refused",
        default: "10000",
        allowed: "a number 1 to 10000000",
        effect: Effect::Sets(|c, v| {
            set(
                &mut c.max_waiting_per_bucket,
                count(v, 1..=bounds::WAITING_MAX),
            )
        }),
    },
    Setting {
        name: "MAX_WAITING",
        help: "Requests that may wait in all; more are refused",
        default: "100000",
        allowed: "a number 1 to 10000000",
        effect: Effect::Sets(|c, v| set(&mut c.max_waiting, count(v, 1..=bounds::WAITING_MAX))),
    },
    Setting {
        name: "MAX_BUCKETS",
        help: "Buckets that are kept",
        default: "1000000",
        allowed: "a number 1 to 100000000",
        effect: Effect::Sets(|c, v| set(&mut c.max_buckets, count(v, 1..=bounds::BUCKETS_MAX))),
    },
    Setting {
        name: "MAX_BEARER_COUNT",
        help: "Bearer tokens that are kept track of",
        default: "1024",
        allowed: "a number 1 to 1000000",
        effect: Effect::Sets(|c, v| {
            set(&mut c.max_bearer_count, count(v, 1..=bounds::BEARERS_MAX))
        }),
    },
];

const LIFECYCLE: &[Setting] = &[
    Setting {
        name: "WORKERS",
        help: "Threads that serve; unset, one for each core that is available",
        default: "",
        allowed: "a number 1 to 256",
        effect: Effect::Sets(|c, v| {
            set(
                &mut c.workers,
                Some(Some(count(v, 1..=bounds::WORKERS_MAX)?)),
            )
        }),
    },
    Setting {
        name: "IO_DRIVER",
        help: "What to wait for the kernel with; auto takes io_uring where it is granted",
        default: "auto",
        allowed: "auto, io_uring or epoll",
        effect: Effect::Sets(|c, v| set(&mut c.io_driver, io_driver(v))),
    },
    Setting {
        name: "SHUTDOWN_TIMEOUT",
        help: "Milliseconds that exchanges may take to finish once weir was told to stop",
        default: "30000",
        allowed: "milliseconds 0 to 3600000",
        effect: Effect::Sets(|c, v| set(&mut c.shutdown_timeout, millis(v, TIMEOUT_OR_ZERO_MS))),
    },
    Setting {
        name: "CORE_DUMPS",
        help: "Let a crash leave a core dump and a panic's words in the log, in which tokens may be, and debuggers of the same user look in",
        default: "false",
        allowed: BOOL_ALLOWED,
        effect: Effect::Switches(|c, v| set(&mut c.core_dumps, boolean(v))),
    },
    Setting {
        name: "STATE_FILE",
        help: "File that keeps what was learned over a restart; unset, it is learned anew",
        default: "",
        allowed: PATH_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.state_file, path(v))),
    },
];

const LOGS: &[Setting] = &[
    Setting {
        name: "LOG_LEVEL",
        help: "How much to log: error, warn, info, debug or trace",
        default: "info",
        allowed: "panic, fatal, error, warn, info, debug or trace",
        effect: Effect::Sets(|c, v| set(&mut c.log_level, LogLevel::named(v))),
    },
    Setting {
        name: "LOG_FORMAT",
        help: "How to log: text, or json with one object a line",
        default: "text",
        allowed: "text or json",
        effect: Effect::Sets(|c, v| set(&mut c.log_format, log_format(v))),
    },
    Setting {
        name: "ACCESS_LOG",
        help: "Which requests get a line on stdout: off, all, errors, a fraction such as 0.01, or errors,0.01",
        default: "off",
        allowed: "off, all, errors, a fraction from 0.000001 to 1, or errors,FRACTION",
        effect: Effect::Sets(|c, v| set(&mut c.access_log, v.parse::<AccessLog>().ok())),
    },
    Setting {
        name: "ENABLE_METRICS",
        help: "Serve Prometheus metrics",
        default: "true",
        allowed: BOOL_ALLOWED,
        effect: Effect::Switches(|c, v| set(&mut c.enable_metrics, boolean(v))),
    },
    Setting {
        name: "METRICS_PORT",
        help: "Port of /metrics; 0 takes a free one",
        default: "9000",
        allowed: PORT_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.metrics_port, port(v))),
    },
    Setting {
        name: "ADMIN_TOKEN",
        help: "What a request to change the running weir must carry; unset, whoever is on this machine may; better not as a flag, which others can see",
        default: "",
        allowed: "16 to 1024 letters, digits and signs without blanks",
        effect: Effect::Lists(|c, v| {
            c.admin_token = Some(admin::token(v)?);
            Ok(())
        }),
    },
];

const IGNORED: &[Setting] = &[
    Setting {
        name: "BUFFER_SIZE",
        help: "Requests in a queue's channel",
        default: "",
        allowed: "a number",
        effect: Effect::Ignored(
            |v| parse::<u64>(v).map(drop),
            "queues here have no channel to size, MAX_WAITING_PER_BUCKET bounds them",
        ),
    },
    Setting {
        name: "DISABLE_HTTP_2",
        help: "No HTTP/2 towards Discord",
        default: "",
        allowed: BOOL_ALLOWED,
        effect: Effect::Ignored(
            |v| boolean(v).map(drop),
            "weir speaks HTTP/1.1 to its upstream in any case",
        ),
    },
    Setting {
        name: "ENABLE_PPROF",
        help: "Go's profiling endpoint",
        default: "",
        allowed: BOOL_ALLOWED,
        effect: Effect::Ignored(
            |v| boolean(v).map(drop),
            "pprof profiles Go programs, `perf record` profiles this one",
        ),
    },
];

const CLUSTER: &[Setting] = &[
    Setting {
        name: "CLUSTER_MEMBERS",
        help: "Nodes to form a cluster with, separated by commas, each with a port if it is not CLUSTER_PORT",
        default: "",
        allowed: "hosts such as 10.0.0.2,node-3:7654,[fd00::4]:7654, at most 64",
        effect: Effect::Lists(|c, v| {
            c.cluster_members = cluster::members(v)?;
            Ok(())
        }),
    },
    Setting {
        name: "CLUSTER_DNS",
        help: "Name that resolves to the nodes of the cluster, looked up again every 2 s while this node is alone and every 30 s otherwise",
        default: "",
        allowed: "a host name, with a port if it is not CLUSTER_PORT",
        effect: Effect::Sets(|c, v| set(&mut c.cluster_dns, parse(v).map(Some))),
    },
    Setting {
        name: "CLUSTER_PORT",
        help: "UDP and TCP port that nodes of a cluster talk on, and that of members named without one; 0 takes a free one",
        default: "7654",
        allowed: PORT_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.cluster_port, port(v))),
    },
    Setting {
        name: "CLUSTER_SECRET",
        help: "What proves to the others that a node is one of them, the same for all; better not given as a flag, which others can see",
        default: "",
        allowed: "16 to 1024 bytes",
        effect: Effect::Lists(|c, v| {
            c.cluster_secret = Some(cluster::secret(v)?);
            Ok(())
        }),
    },
    Setting {
        name: "CLUSTER_CA_FILE",
        help: "PEM file with the authorities that must have signed the certificates of other nodes",
        default: "",
        allowed: PATH_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.cluster_ca_file, path(v))),
    },
    Setting {
        name: "CLUSTER_TLS_NAME",
        help: "Host name that the certificates of all nodes carry; unset, each node's carries its address",
        default: "",
        allowed: "a host name such as weir.example.com",
        effect: Effect::Sets(|c, v| {
            let name = Some(v.to_owned()).filter(|name| is_host_name(name));
            set(&mut c.cluster_tls_name, name.map(Some))
        }),
    },
];

pub(super) const PORT_ALLOWED: &str = "a port number 0 to 65535";
pub(super) const PATH_ALLOWED: &str = "the path of a file";
const BOOL_ALLOWED: &str = "true or false";
pub(super) const TIMEOUT_ALLOWED: &str = "milliseconds 1 to 3600000";

pub(super) fn set<T>(field: &mut T, value: Option<T>) -> Option<()> {
    *field = value?;
    Some(())
}

pub(super) fn parse<T: FromStr>(value: &str) -> Option<T> {
    value.parse().ok()
}

/// A whole number in decimal digits alone: no sign.
pub(super) fn number<T: FromStr>(value: &str) -> Option<T> {
    if value.bytes().all(|b| b.is_ascii_digit()) {
        parse(value)
    } else {
        None
    }
}

pub(super) fn path(value: &str) -> Option<Option<PathBuf>> {
    (!value.is_empty()).then(|| Some(value.into()))
}

pub(super) fn port(value: &str) -> Option<u16> {
    number(value)
}

pub(super) fn count(value: &str, range: RangeInclusive<usize>) -> Option<usize> {
    number(value).filter(|count| range.contains(count))
}

pub(super) fn millis(value: &str, range: RangeInclusive<u64>) -> Option<Duration> {
    number(value)
        .filter(|ms| range.contains(ms))
        .map(Duration::from_millis)
}

/// As Go's `strconv.ParseBool`, for nirn-proxy's sake.
fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn rate(value: &str) -> Option<u64> {
    number(value).filter(|rate| *rate <= bounds::CLIENT_MIN_RATE_MAX)
}

fn retries(value: &str) -> Option<u32> {
    number(value).filter(|count| *count <= bounds::RETRIES_MAX)
}

fn default_bucket(value: &str) -> Option<u16> {
    number(value).filter(|width| (1..=bounds::DEFAULT_BUCKET_MAX).contains(width))
}

fn outbound(value: &str) -> Option<IpAddr> {
    parse::<IpAddr>(value).filter(|ip| !ip.is_unspecified() && !ip.is_multicast())
}

/// `id:limit,…`, each id once; what is wrong is returned: the pair of an id that stands twice, else all.
fn overrides(value: &str) -> Result<BTreeMap<u64, u32>, String> {
    let mut limits = BTreeMap::new();
    for pair in value.split(',') {
        let (id, limit) = bot_limit(pair).ok_or(value)?;
        if limits.insert(id, limit).is_some() {
            return Err(pair.to_owned());
        }
        if limits.len() > bounds::OVERRIDES_MAX {
            return Err(value.to_owned());
        }
    }
    Ok(limits)
}

fn bot_limit(pair: &str) -> Option<(u64, u32)> {
    let (id, limit) = pair.split_once(':')?;
    let limit = number(limit).filter(|limit| (1..=bounds::GLOBAL_LIMIT_MAX).contains(limit))?;
    Some((number(id)?, limit))
}

fn io_driver(value: &str) -> Option<IoDriver> {
    match value.to_ascii_lowercase().as_str() {
        "auto" => Some(IoDriver::Auto),
        "io_uring" => Some(IoDriver::IoUring),
        "epoll" => Some(IoDriver::Epoll),
        _ => None,
    }
}

fn log_format(value: &str) -> Option<LogFormat> {
    match value.to_ascii_lowercase().as_str() {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}
