//! What a person can decide: the validated [`Config`], and how it comes about.
//!
//! A program that embeds weir fills in the fields: `Config { port: 0, ..Config::default() }`. The
//! `weir` program calls [`Loaded::from_system`], which takes each setting from a flag, else
//! the environment, else `.env`, else the default. Names, meanings and defaults are nirn-proxy's
//! where it has the setting, so that weir can take its place unchanged.
//!
//! [`bounds`] holds every cap, `setting` the table of settings, `flags` has their help, `source` reads them, `ports` and `effects`
//! look at what they say together, `spelling` at what is nearly a name, [`forward`] has
//! those of the forward proxy; `upstream`, `buckets`, `gateway`, `allow` and `cluster` are those with a grammar
//! of their own, `tls` and `redis` those of several parts.

mod access;
mod admin;
mod allow;
pub mod bounds;
mod buckets;
mod cluster;
mod effects;
mod flags;
pub mod forward;
mod gateway;
mod ports;
mod redis;
mod setting;
mod shown;
mod source;
mod spelling;
mod tls;
mod upstream;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

pub use access::{AccessLog, NotAnAccessLog};
pub use admin::AdminToken;
pub use allow::{AllowFrom, NotANetwork};
pub use buckets::{NotATemplate, RouteTemplate};
pub use cluster::{ClusterSecret, NotAPeer, Peer};
pub use flags::{arguments, env_file};
pub use forward::Forward;
pub use gateway::{BotToken, NotAToken};
pub use ports::Listener;
pub use redis::{RedisAddress, RedisFail, RedisSettings, RedisUrl, Secret};
pub use source::{GivenSetting, Loaded, Place, Refused, Wrong, early_log_format, only};
pub use spelling::misspelt_setting;
pub use tls::{NodeTls, TlsFiles};
pub use upstream::{NotAnUpstream, UpstreamUrl};

/// Everything that can be decided about a running weir.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// `BIND_IP`: the address that clients and metrics are served on.
    pub bind_ip: IpAddr,
    /// `PORT`: the port for clients; 0 takes a free one.
    pub port: u16,
    /// `ALLOW_FROM`: who may connect, to either port.
    pub allow_from: AllowFrom,
    /// `TLS_CERT_FILE`: a PEM file with the certificate that clients are shown and those between it
    /// and an authority; `None` for plain HTTP. Together with [`Config::tls_key_file`].
    pub tls_cert_file: Option<PathBuf>,
    /// `TLS_KEY_FILE`: a PEM file with its private key.
    pub tls_key_file: Option<PathBuf>,
    /// `TLS_CLIENT_CA_FILE`: a PEM file with the authorities that a client's certificate must be
    /// signed by; `None` asks for none.
    pub tls_client_ca_file: Option<PathBuf>,
    /// `METRICS_PORT`: the port of `/metrics`; 0 takes a free one.
    pub metrics_port: u16,
    /// `ENABLE_METRICS`: whether `/metrics` is served.
    pub enable_metrics: bool,
    /// `ADMIN_TOKEN`: what a request to change a running weir must carry, wherever it is from; `None`
    /// lets in whoever is on this machine.
    pub admin_token: Option<AdminToken>,
    /// `LOG_LEVEL`.
    pub log_level: LogLevel,
    /// `LOG_FORMAT`, of the access log as well.
    pub log_format: LogFormat,
    /// `ACCESS_LOG`: which requests get a line on stdout.
    pub access_log: AccessLog,

    /// `WORKERS`: threads that serve, 1 to [`bounds::WORKERS_MAX`]; `None` is one for each core
    /// that is available. See [`Config::worker_count`].
    pub workers: Option<usize>,
    /// `IO_DRIVER`.
    pub io_driver: IoDriver,

    /// `UPSTREAM_URL`: where requests go.
    pub upstream: UpstreamUrl,
    /// `UPSTREAM_CA_FILE`: a PEM file with the only certificates that are trusted to sign the
    /// upstream's; `None` is Mozilla's list.
    pub upstream_ca_file: Option<PathBuf>,
    /// `OUTBOUND_IP`: the local address of upstream connections.
    pub outbound_ip: Option<IpAddr>,
    /// `UPSTREAM_MAX_CONNECTIONS`: upstream connections of one worker.
    pub upstream_max_connections: usize,
    /// `UPSTREAM_IDLE_TIMEOUT`: how long an unused upstream connection is kept.
    pub upstream_idle_timeout: Duration,
    /// `REQUEST_TIMEOUT`: from sending a request upstream to the head of its answer; waiting for
    /// a limit is not in it.
    pub request_timeout: Duration,

    /// `CLIENT_HEADER_TIMEOUT`: from the first byte of a request to the end of its head; and from
    /// the connection's beginning to the first byte.
    pub client_header_timeout: Duration,
    /// `CLIENT_IDLE_TIMEOUT`: how long a client's connection may be silent between requests.
    pub client_idle_timeout: Duration,
    /// `CLIENT_MIN_RATE`: bytes a second that a client sends of a body, and takes of an answer, at
    /// the least. Every so many win back a second of `client_idle_timeout`, which waiting for the
    /// client uses up; 0 wins all of it back with each byte.
    pub client_min_rate: u64,
    /// `MAX_CONNECTIONS`: client connections of the process; fewer where the limit of open files
    /// leaves no room for as many.
    pub max_connections: usize,
    /// `MAX_CONNECTIONS_PER_CLIENT`: client connections from one IPv4 address or one IPv6 /64;
    /// `None` for no bound.
    pub max_connections_per_client: Option<usize>,
    /// `SHUTDOWN_TIMEOUT`: how long exchanges under way may take once weir was told to stop.
    pub shutdown_timeout: Duration,

    /// `CORE_DUMPS`: whether the program may leave its memory, in which tokens are, in a file when it
    /// crashes, tell in full what a panic says, and be looked into while it runs. For the program alone: a library does not decide
    /// that for the process that it is a part of.
    pub core_dumps: bool,
    /// `STATE_FILE`: what was learned is kept there over a restart; `None`: in memory alone.
    pub state_file: Option<PathBuf>,

    /// `CLUSTER_PORT`: the UDP port of this node's cluster, and of members named without one; 0 takes a
    /// free one.
    pub cluster_port: u16,
    /// `CLUSTER_MEMBERS`: nodes to form a cluster with; this one may be among them.
    pub cluster_members: Vec<Peer>,
    /// `CLUSTER_DNS`: a name that resolves to such nodes.
    pub cluster_dns: Option<Peer>,
    /// `CLUSTER_SECRET`: what proves that a node is one; `None` lets in whoever reaches the port.
    pub cluster_secret: Option<ClusterSecret>,
    /// `CLUSTER_CA_FILE`: a PEM file with the authorities that the certificates of other nodes must be
    /// signed by; `None` believes none. See [`Config::node_tls`].
    pub cluster_ca_file: Option<PathBuf>,
    /// `CLUSTER_TLS_NAME`: the host name that nodes' certificates carry; `None`: their address.
    pub cluster_tls_name: Option<String>,

    /// `RETRIES`: how often a request answered with 429 is sent again.
    pub retries: u32,
    /// `RETRY_SHARED`: a 429 for a resource shared with others does not count against `retries`.
    pub retry_shared: bool,
    /// `MAX_WAIT`: the longest that a request waits for a limit; `None` for no bound.
    pub max_wait: Option<Duration>,
    /// `ALLOW_CONCURRENT_REQUESTS`: requests of a bucket that change something go side by side.
    pub allow_concurrent_requests: bool,
    /// `DEFAULT_BUCKET`: requests of unknown routes that go at once, per identity and major.
    pub default_bucket: u16,
    /// `DEFAULT_BUCKETS`: of these routes, so many requests go at once before the first answer, per
    /// identity and major; such a route does not wait for other unknown ones. Each from 1.
    pub default_buckets: BTreeMap<RouteTemplate, u16>,
    /// `MAX_WAITING_PER_BUCKET`: requests that wait for one bucket; more are refused. Never
    /// exceeds `max_waiting` in effect.
    pub max_waiting_per_bucket: usize,
    /// `MAX_WAITING`: requests of the process that wait, an equal part in each worker's shard; more
    /// are refused.
    pub max_waiting: usize,
    /// `MAX_BUCKETS`: buckets of the process that are kept, an equal part in each worker's shard.
    pub max_buckets: usize,
    /// `MAX_BEARER_COUNT`: bearer tokens that are kept track of; the one longest unused goes.
    pub max_bearer_count: usize,
    /// `BOT_RATELIMIT_OVERRIDES`: global limits, requests a second by bot user id.
    pub bot_ratelimit_overrides: BTreeMap<u64, u32>,
    /// `DISABLE_GLOBAL_RATELIMIT_DETECTION`: never ask `/gateway/bot` for a bot's global limit.
    pub disable_global_ratelimit_detection: bool,
    /// `DISABLE_401_LOCK`: go on sending for a token that Discord refused.
    pub disable_401_lock: bool,

    /// `GATEWAY_QUEUE_PORT`: where shards ask when they may IDENTIFY; 0 takes a free one, `None`: nowhere.
    pub gateway_queue_port: Option<u16>,
    /// `DISCORD_TOKEN`: the bot whose shards ask without an `Authorization` of their own.
    pub discord_token: Option<BotToken>,
    /// `GATEWAY_QUEUE_MAX_WAITING`: shards that wait to IDENTIFY; more are refused.
    pub gateway_queue_max_waiting: usize,
    /// `GATEWAY_QUEUE_MAX_WAITING_PER_BOT`: the same of one bot.
    pub gateway_queue_max_waiting_per_bot: usize,
    /// `GATEWAY_QUEUE_MAX_BOTS`: bots that the identify queue keeps track of.
    pub gateway_queue_max_bots: usize,

    /// The forward proxy.
    pub forward: Forward,
    /// `REDIS_ADDR`: where forward proxies share their caps. This and the settings below are taken
    /// together by [`Config::redis`].
    pub redis_addr: Option<RedisUrl>,
    /// `REDIS_USERNAME`.
    pub redis_username: Option<String>,
    /// `REDIS_PASSWORD`.
    pub redis_password: Option<Secret>,
    /// `REDIS_DB`.
    pub redis_db: Option<u32>,
    /// `REDIS_FAIL`.
    pub redis_fail: RedisFail,
    /// `REDIS_MAX_LIFETIME`: see [`RedisSettings::max_lifetime`].
    pub redis_max_lifetime: Duration,
    /// `REDIS_TIMEOUT`: see [`RedisSettings::timeout`].
    pub redis_timeout: Duration,
    /// `REDIS_SCAN_INTERVAL`: see [`RedisSettings::scan_interval`].
    pub redis_scan_interval: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 8080,
            allow_from: AllowFrom::default(),
            tls_cert_file: None,
            tls_key_file: None,
            tls_client_ca_file: None,
            metrics_port: 9000,
            enable_metrics: true,
            admin_token: None,
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
            access_log: AccessLog::default(),
            workers: None,
            io_driver: IoDriver::Auto,
            upstream: UpstreamUrl::default(),
            upstream_ca_file: None,
            outbound_ip: None,
            upstream_max_connections: bounds::UPSTREAM_CONNECTIONS,
            upstream_idle_timeout: bounds::UPSTREAM_IDLE_TIMEOUT,
            request_timeout: bounds::REQUEST_TIMEOUT,
            client_header_timeout: bounds::CLIENT_HEADER_TIMEOUT,
            client_idle_timeout: bounds::CLIENT_IDLE_TIMEOUT,
            client_min_rate: bounds::CLIENT_MIN_RATE,
            max_connections: bounds::CONNECTIONS,
            max_connections_per_client: None,
            shutdown_timeout: bounds::SHUTDOWN_TIMEOUT,
            core_dumps: false,
            state_file: None,
            cluster_port: bounds::CLUSTER_PORT,
            cluster_members: Vec::new(),
            cluster_dns: None,
            cluster_secret: None,
            cluster_ca_file: None,
            cluster_tls_name: None,
            retries: bounds::RETRIES,
            retry_shared: true,
            max_wait: None,
            allow_concurrent_requests: false,
            default_bucket: 1,
            default_buckets: BTreeMap::new(),
            max_waiting_per_bucket: bounds::WAITING_PER_BUCKET,
            max_waiting: bounds::WAITING,
            max_buckets: bounds::BUCKETS,
            max_bearer_count: bounds::BEARERS,
            bot_ratelimit_overrides: BTreeMap::new(),
            disable_global_ratelimit_detection: false,
            disable_401_lock: false,
            gateway_queue_port: None,
            discord_token: None,
            gateway_queue_max_waiting: bounds::GATEWAY_WAITING,
            gateway_queue_max_waiting_per_bot: bounds::GATEWAY_WAITING_PER_BOT,
            gateway_queue_max_bots: bounds::GATEWAY_BOTS,
            forward: Forward::default(),
            redis_addr: None,
            redis_username: None,
            redis_password: None,
            redis_db: None,
            redis_fail: RedisFail::Local,
            redis_max_lifetime: redis::MAX_LIFETIME,
            redis_timeout: redis::TIMEOUT,
            redis_scan_interval: Some(redis::SCAN_INTERVAL),
        }
    }
}

impl Config {
    /// How many workers to start on a machine with `available_cores`.
    pub fn worker_count(&self, available_cores: usize) -> usize {
        self.workers
            .unwrap_or(available_cores)
            .clamp(1, bounds::WORKERS_MAX)
    }

    /// Whether anybody can use this weir: it listens on an address that is not private, and asks for
    /// neither an address nor a certificate.
    pub fn is_open_to_everyone(&self) -> bool {
        self.allow_from.is_everyone()
            && self.tls_client_ca_file.is_none()
            && allow::is_reachable_from_anywhere(self.bind_ip)
    }

    /// The same of the forward proxy: it asks for neither an address nor a password.
    pub fn is_forward_open_to_everyone(&self) -> bool {
        self.forward.port.is_some()
            && self.allow_from.is_everyone()
            && self.forward.credentials_file.is_none()
            && allow::is_reachable_from_anywhere(self.forward.bind_ip)
    }
}

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// What weir cannot mend. nirn-proxy's `panic` and `fatal` as well, which have no counterpart.
    Error,
    /// What somebody should look at.
    Warn,
    /// Starts, stops and changes.
    Info,
    /// Each request.
    Debug,
    /// Each step of each request.
    Trace,
}

impl LogLevel {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The level of this name, of logrus' too, which nirn-proxy takes, in any case.
    pub fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "panic" | "fatal" | "error" => Some(Self::Error),
            "warn" | "warning" => Some(Self::Warn),
            "info" => Some(Self::Info),
            "debug" => Some(Self::Debug),
            "trace" => Some(Self::Trace),
            _ => None,
        }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For eyes.
    Text,
    /// One JSON object a line.
    Json,
}

/// What workers wait for the kernel with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoDriver {
    /// io_uring where the kernel grants it, else epoll.
    Auto,
    /// io_uring or no start.
    IoUring,
    /// epoll.
    Epoll,
}

#[cfg(test)]
mod tests;
