//! Each setting from each place, and the line that a wrong value gives.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::flags::arguments;
use super::setting::{Effect, Setting};
use super::source::load;
use super::*;

fn from(args: &[&str], env: &[(&str, &str)], dot_env: &str) -> Result<Loaded, Refused> {
    let env: BTreeMap<&str, &str> = env.iter().copied().collect();
    let flags = arguments(clap::Command::new("weir"))
        .try_get_matches_from(["weir"].iter().chain(args))
        .unwrap();
    let env = |name: &str| env.get(name).map(OsString::from);
    load(&[&flags], &env, dot_env.as_bytes())
}

fn config(env: &[(&str, &str)]) -> Config {
    from(&[], env, "").unwrap().config
}

fn error(result: Result<Loaded, Refused>) -> String {
    result.unwrap_err().wrong.to_string()
}

fn settings() -> impl Iterator<Item = &'static Setting> {
    Setting::all()
}

#[test]
fn without_anything_the_configuration_is_the_default() {
    let loaded = from(&[], &[], "").unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.warnings.is_empty());
}

#[test]
fn the_defaults_that_help_shows_are_the_defaults() {
    for setting in settings().filter(|s| !s.default.is_empty()) {
        let loaded = from(&[], &[(setting.name, setting.default)], "").unwrap();
        assert_eq!(loaded.config, Config::default(), "{}", setting.name);
    }
}

#[test]
fn every_setting_sets_its_own_field_and_no_other() {
    type Change = fn(&mut Config);
    let table: &[(&str, &str, Change)] = &[
        ("BIND_IP", "::1", |c| c.bind_ip = "::1".parse().unwrap()),
        ("PORT", "0", |c| c.port = 0),
        ("ALLOW_FROM", "10.0.0.0/8,::1", |c| {
            c.allow_from = "10.0.0.0/8,::1".parse().unwrap();
        }),
        ("REDIS_ADDR", "redis:7", |c| {
            c.redis_addr = Some("redis:7".parse().unwrap());
        }),
        ("REDIS_USERNAME", "me", |c| {
            c.redis_username = Some("me".to_owned());
        }),
        ("REDIS_PASSWORD", "p", |c| {
            c.redis_password = Some("p".into());
        }),
        ("REDIS_DB", "7", |c| c.redis_db = Some(7)),
        ("REDIS_FAIL", "closed", |c| {
            c.redis_fail = RedisFail::Closed;
        }),
        ("REDIS_MAX_LIFETIME", "1000", |c| {
            c.redis_max_lifetime = Duration::from_secs(1);
        }),
        ("REDIS_TIMEOUT", "10", |c| {
            c.redis_timeout = Duration::from_millis(10);
        }),
        ("REDIS_SCAN_INTERVAL", "0", |c| c.redis_scan_interval = None),
        ("CORE_DUMPS", "true", |c| c.core_dumps = true),
        ("ENABLE_METRICS", "false", |c| c.enable_metrics = false),
        ("METRICS_PORT", "65535", |c| c.metrics_port = 65_535),
        ("MAX_CONNECTIONS", "7", |c| c.max_connections = 7),
        ("MAX_CONNECTIONS_PER_CLIENT", "7", |c| {
            c.max_connections_per_client = Some(7);
        }),
        ("CLIENT_MIN_RATE", "7", |c| c.client_min_rate = 7),
        ("CLIENT_HEADER_TIMEOUT", "7", |c| {
            c.client_header_timeout = Duration::from_millis(7);
        }),
        ("CLIENT_IDLE_TIMEOUT", "7", |c| {
            c.client_idle_timeout = Duration::from_millis(7);
        }),
        ("UPSTREAM_URL", "http://a:81", |c| {
            c.upstream = "http://a:81".parse().unwrap();
        }),
        ("UPSTREAM_CA_FILE", "/a/ca.pem", |c| {
            c.upstream_ca_file = Some("/a/ca.pem".into());
        }),
        ("OUTBOUND_IP", "127.0.0.2", |c| {
            c.outbound_ip = Some("127.0.0.2".parse().unwrap());
        }),
        ("REQUEST_TIMEOUT", "3600000", |c| {
            c.request_timeout = Duration::from_secs(3_600);
        }),
        ("UPSTREAM_MAX_CONNECTIONS", "7", |c| {
            c.upstream_max_connections = 7;
        }),
        ("UPSTREAM_IDLE_TIMEOUT", "7", |c| {
            c.upstream_idle_timeout = Duration::from_millis(7);
        }),
        ("BOT_RATELIMIT_OVERRIDES", "1:100,2:80", |c| {
            c.bot_ratelimit_overrides = [(1, 100), (2, 80)].into();
        }),
        ("DISABLE_GLOBAL_RATELIMIT_DETECTION", "true", |c| {
            c.disable_global_ratelimit_detection = true;
        }),
        ("DISABLE_401_LOCK", "1", |c| c.disable_401_lock = true),
        ("RETRIES", "7", |c| c.retries = 7),
        ("RETRY_SHARED", "false", |c| c.retry_shared = false),
        ("MAX_WAIT", "7", |c| {
            c.max_wait = Some(Duration::from_millis(7));
        }),
        ("ALLOW_CONCURRENT_REQUESTS", "true", |c| {
            c.allow_concurrent_requests = true;
        }),
        ("DEFAULT_BUCKET", "7", |c| c.default_bucket = 7),
        ("DEFAULT_BUCKETS", "GET /users/@me=7", |c| {
            c.default_buckets = [("GET /users/@me".parse().unwrap(), 7)].into();
        }),
        ("MAX_WAITING_PER_BUCKET", "7", |c| {
            c.max_waiting_per_bucket = 7;
        }),
        ("MAX_WAITING", "7", |c| c.max_waiting = 7),
        ("MAX_BUCKETS", "7", |c| c.max_buckets = 7),
        ("MAX_BEARER_COUNT", "7", |c| c.max_bearer_count = 7),
        ("GATEWAY_QUEUE_PORT", "0", |c| {
            c.gateway_queue_port = Some(0);
        }),
        ("DISCORD_TOKEN", "a.b.c", |c| {
            c.discord_token = Some("a.b.c".parse().unwrap());
        }),
        ("GATEWAY_QUEUE_MAX_WAITING", "7", |c| {
            c.gateway_queue_max_waiting = 7;
        }),
        ("GATEWAY_QUEUE_MAX_WAITING_PER_BOT", "7", |c| {
            c.gateway_queue_max_waiting_per_bot = 7;
        }),
        ("GATEWAY_QUEUE_MAX_BOTS", "7", |c| {
            c.gateway_queue_max_bots = 7;
        }),
        ("DPRL_PORT", "0", |c| c.forward.port = Some(0)),
        ("FORWARD_PORT", "7", |c| c.forward.port = Some(7)),
        ("FORWARD_BIND_IP", "::1", |c| {
            c.forward.bind_ip = "::1".parse().unwrap();
        }),
        ("DPRL_MAX_CONNECTIONS", "7", |c| {
            c.forward.max_connections = 7;
        }),
        ("FORWARD_MAX_CONNECTIONS", "7", |c| {
            c.forward.max_connections = 7;
        }),
        ("FORWARD_HOST_LIMITS", "a.example=7", |c| {
            let key = crate::destination::HostKey::parse("a.example").unwrap();
            c.forward.host_limits = [(key, 7)].into();
        }),
        ("FORWARD_REJECT_STATUS", "503", |c| {
            c.forward.reject_status = forward::RejectStatus::ServiceUnavailable;
        }),
        ("FORWARD_QUEUE_TIMEOUT", "7", |c| {
            c.forward.queue_timeout = Some(Duration::from_millis(7));
        }),
        ("FORWARD_ALLOW", "*.a.example,10.0.0.0/8", |c| {
            c.forward.allow = Some("*.a.example,10.0.0.0/8".parse().unwrap());
        }),
        ("FORWARD_DENY", "a.example:7", |c| {
            c.forward.deny = "a.example:7".parse().unwrap();
        }),
        ("FORWARD_CREDENTIALS_FILE", "/a/users", |c| {
            c.forward.credentials_file = Some("/a/users".into());
        }),
        ("FORWARD_CONNECT_TIMEOUT", "7", |c| {
            c.forward.connect_timeout = Duration::from_millis(7);
        }),
        ("FORWARD_IDLE_TIMEOUT", "7", |c| {
            c.forward.idle_timeout = Duration::from_millis(7);
        }),
        ("FORWARD_MAX_CLIENTS", "7", |c| c.forward.max_clients = 7),
        ("WORKERS", "7", |c| c.workers = Some(7)),
        ("IO_DRIVER", "epoll", |c| c.io_driver = IoDriver::Epoll),
        ("SHUTDOWN_TIMEOUT", "0", |c| {
            c.shutdown_timeout = Duration::ZERO;
        }),
        ("STATE_FILE", "/a/state", |c| {
            c.state_file = Some("/a/state".into());
        }),
        ("CLUSTER_MEMBERS", "a:7", |c| {
            c.cluster_members = vec!["a:7".parse().unwrap()];
        }),
        ("CLUSTER_DNS", "a:7", |c| {
            c.cluster_dns = Some("a:7".parse().unwrap());
        }),
        ("CLUSTER_PORT", "7", |c| c.cluster_port = 7),
        ("CLUSTER_SECRET", "0123456789abcdef", |c| {
            c.cluster_secret = ClusterSecret::new("0123456789abcdef");
        }),
        ("CLUSTER_CA_FILE", "/a/ca.pem", |c| {
            c.cluster_ca_file = Some("/a/ca.pem".into());
        }),
        ("LOG_LEVEL", "trace", |c| c.log_level = LogLevel::Trace),
        ("LOG_FORMAT", "json", |c| c.log_format = LogFormat::Json),
        ("ACCESS_LOG", "errors", |c| c.access_log = AccessLog::ERRORS),
        ("ADMIN_TOKEN", "0123456789abcdef", |c| {
            c.admin_token = AdminToken::new("0123456789abcdef");
        }),
    ];
    for (name, value, change) in table {
        let mut expected = Config::default();
        change(&mut expected);
        let flag = format!("--{}={value}", name.to_lowercase().replace('_', "-"));
        assert_eq!(config(&[(name, value)]), expected, "{name}");
        assert_eq!(from(&[&flag], &[], "").unwrap().config, expected, "{flag}");
        let quote = if value.contains(' ') { "\"" } else { "" };
        let dot_env = format!("# mine\n\n{name}={quote}{value}{quote}\n");
        assert_eq!(
            from(&[], &[], &dot_env).unwrap().config,
            expected,
            "{name} in .env"
        );
    }
    let with_effect = settings().filter(|s| !matches!(s.effect, Effect::Ignored(..)));
    assert_eq!(
        with_effect.count(),
        // Those of TLS are not set alone, and have their own test; so has CLUSTER_TLS_NAME.
        table.len() + 4,
        "a setting is missing from this test"
    );
}

#[test]
fn every_wrong_value_gives_one_line_with_name_value_and_what_is_allowed() {
    const PORT: &str = "a port number 0 to 65535";
    const MS: &str = "milliseconds 1 to 3600000";
    const BOOL: &str = "true or false";
    const WAITING: &str = "a number 1 to 10000000";
    let table = [
        (
            "REDIS_ADDR",
            "rediss://redis",
            "host:port, redis://user:password@host:port/db or unix:///path; Redis over TLS is not spoken",
        ),
        ("REDIS_DB", "-1", "a number 0 to 2147483647"),
        ("REDIS_FAIL", "maybe", "closed, open or local"),
        ("REDIS_MAX_LIFETIME", "999", "milliseconds 1000 to 86400000"),
        ("REDIS_TIMEOUT", "9", "milliseconds 10 to 10000"),
        (
            "REDIS_SCAN_INTERVAL",
            "99",
            "milliseconds 100 to 3600000, or 0",
        ),
        (
            "BIND_IP",
            "localhost",
            "an IP address such as 127.0.0.1 or ::",
        ),
        ("PORT", "abc", PORT),
        ("PORT", "65536", PORT),
        ("PORT", "-1", PORT),
        ("PORT", "+80", PORT),
        ("METRICS_PORT", "9000x", PORT),
        ("CORE_DUMPS", "yes", BOOL),
        ("ENABLE_METRICS", "yes", BOOL),
        ("MAX_CONNECTIONS", "0", "a number 1 to 1048576"),
        ("MAX_CONNECTIONS", "1048577", "a number 1 to 1048576"),
        ("MAX_CONNECTIONS_PER_CLIENT", "-1", "a number 0 to 1048576"),
        ("CLIENT_MIN_RATE", "1K", "a number 0 to 1073741824"),
        ("CLIENT_HEADER_TIMEOUT", "10s", MS),
        ("CLIENT_IDLE_TIMEOUT", "3600001", MS),
        (
            "UPSTREAM_URL",
            "discord.com",
            "https:// or http://, a host and perhaps a port, without a path",
        ),
        (
            "UPSTREAM_URL",
            "https://discord.com/api",
            "https:// or http://, a host and perhaps a port, without a path",
        ),
        (
            "OUTBOUND_IP",
            "0.0.0.0",
            "an IP address of this machine, such as 192.0.2.1",
        ),
        ("REQUEST_TIMEOUT", "0", MS),
        ("UPSTREAM_MAX_CONNECTIONS", "28233", "a number 1 to 28232"),
        ("UPSTREAM_IDLE_TIMEOUT", "1.5", MS),
        ("DISABLE_GLOBAL_RATELIMIT_DETECTION", "on", BOOL),
        ("DISABLE_401_LOCK", "tRUE", BOOL),
        ("RETRIES", "11", "a number 0 to 10"),
        ("RETRY_SHARED", "yes", BOOL),
        ("MAX_WAIT", "1s", "milliseconds 0 to 3600000"),
        ("ALLOW_CONCURRENT_REQUESTS", "2", BOOL),
        ("DEFAULT_BUCKET", "0", "a number 1 to 1000"),
        ("MAX_WAITING_PER_BUCKET", "0", WAITING),
        ("MAX_WAITING", "10000001", WAITING),
        ("MAX_BUCKETS", "1e6", "a number 1 to 100000000"),
        ("MAX_BEARER_COUNT", "1000001", "a number 1 to 1000000"),
        ("GATEWAY_QUEUE_PORT", "65536", PORT),
        ("GATEWAY_QUEUE_MAX_WAITING", "0", "a number 1 to 1048576"),
        (
            "GATEWAY_QUEUE_MAX_WAITING_PER_BOT",
            "1048577",
            "a number 1 to 1048576",
        ),
        ("GATEWAY_QUEUE_MAX_BOTS", "65537", "a number 1 to 65536"),
        ("DPRL_PORT", "x", PORT),
        ("FORWARD_PORT", "65536", PORT),
        (
            "FORWARD_BIND_IP",
            "localhost",
            "an IP address such as 127.0.0.1 or ::",
        ),
        ("DPRL_MAX_CONNECTIONS", "-1", "a number 0 to 1048576"),
        (
            "FORWARD_MAX_CONNECTIONS",
            "1048577",
            "a number 0 to 1048576",
        ),
        ("FORWARD_REJECT_STATUS", "429", "500 or 503"),
        ("FORWARD_QUEUE_TIMEOUT", "1s", "milliseconds 0 to 3600000"),
        ("FORWARD_CONNECT_TIMEOUT", "0", MS),
        ("FORWARD_IDLE_TIMEOUT", "3600001", MS),
        ("FORWARD_MAX_CLIENTS", "0", "a number 1 to 1048576"),
        ("WORKERS", "257", "a number 1 to 256"),
        ("WORKERS", "0", "a number 1 to 256"),
        ("IO_DRIVER", "kqueue", "auto, io_uring or epoll"),
        ("SHUTDOWN_TIMEOUT", "3600001", "milliseconds 0 to 3600000"),
        (
            "LOG_LEVEL",
            "loud",
            "panic, fatal, error, warn, info, debug or trace",
        ),
        ("LOG_FORMAT", "xml", "text or json"),
        (
            "ACCESS_LOG",
            "1.5",
            "off, all, errors, a fraction from 0.000001 to 1, or errors,FRACTION",
        ),
        ("BUFFER_SIZE", "x", "a number"),
        ("DISABLE_HTTP_2", "2", BOOL),
        ("ENABLE_PPROF", "2", BOOL),
        ("CLUSTER_PORT", "x", PORT),
        (
            "CLUSTER_DNS",
            "a..b",
            "a host name, with a port if it is not CLUSTER_PORT",
        ),
    ];
    for (name, value, allowed) in table {
        let flag = name.to_lowercase().replace('_', "-");
        let tail = format!(": {value:?} is not allowed; {allowed}");
        assert_eq!(
            error(from(&[], &[(name, value)], "")),
            format!("{name}{tail}")
        );
        let by_flag = from(&[&format!("--{flag}={value}")], &[], "");
        assert_eq!(error(by_flag), format!("--{flag} ({name}){tail}"));
        let by_file = from(&[], &[], &format!("{name}={value}"));
        assert_eq!(error(by_file), format!("{name} in .env{tail}"));
    }
    let without_a_test = settings()
        .map(|s| s.name)
        .filter(|name| !table.iter().any(|(tested, ..)| tested == name))
        .collect::<Vec<_>>();
    // The lists and the files of TLS have their own tests; the others take any text.
    let expected = [
        "ALLOW_FROM",
        "TLS_CERT_FILE",
        "TLS_KEY_FILE",
        "TLS_CLIENT_CA_FILE",
        "UPSTREAM_CA_FILE",
        "BOT_RATELIMIT_OVERRIDES",
        "DEFAULT_BUCKETS",
        "DISCORD_TOKEN",
        "CLUSTER_MEMBERS",
        "CLUSTER_SECRET",
        "CLUSTER_CA_FILE",
        "CLUSTER_TLS_NAME",
        "FORWARD_HOST_LIMITS",
        "FORWARD_ALLOW",
        "FORWARD_DENY",
        "FORWARD_CREDENTIALS_FILE",
        "REDIS_USERNAME",
        "REDIS_PASSWORD",
        "STATE_FILE",
        "ADMIN_TOKEN",
    ];
    assert_eq!(without_a_test, expected);
}

#[test]
fn members_of_a_cluster_are_read_as_nirn_reads_them() {
    let members = |value| config(&[("CLUSTER_MEMBERS", value)]).cluster_members;
    let peer = |host: &str, port| Peer {
        host: host.to_owned(),
        port,
    };
    let expected = [peer("10.0.0.2", None), peer("10.0.0.3", Some(7244))];
    assert_eq!(members("10.0.0.2,10.0.0.3:7244"), expected);
    assert_eq!(members(" 10.0.0.2 , 10.0.0.3:7244,10.0.0.2,"), expected);
    let message = error(from(
        &[],
        &[("CLUSTER_MEMBERS", "10.0.0.2,10.0.0.3:0,a")],
        "",
    ));
    assert_eq!(
        message,
        "CLUSTER_MEMBERS: \"10.0.0.3:0\" is not allowed; hosts such as \
         10.0.0.2,node-3:7654,[fd00::4]:7654, at most 64"
    );
    let many: Vec<_> = (0..65).map(|n| format!("10.0.0.{n}")).collect();
    let message = error(from(&[], &[("CLUSTER_MEMBERS", &many.join(","))], ""));
    assert!(
        message.starts_with("CLUSTER_MEMBERS: \"65 members\" is not"),
        "{message}"
    );
    assert_eq!(bounds::CLUSTER_MEMBERS_MAX, 64);

    let dns = config(&[("CLUSTER_DNS", "nirn.example"), ("CLUSTER_PORT", "7946")]);
    assert_eq!(dns.cluster_dns, Some(peer("nirn.example", None)));
    assert_eq!(dns.cluster_port, 7946);
    assert!(dns.is_clustered());
    assert!(!config(&[("CLUSTER_PORT", "7946")]).is_clustered());
    assert_eq!(Config::default().cluster_port, 7654);
}

#[test]
fn a_clusters_secret_is_neither_short_nor_shown() {
    let good = config(&[("CLUSTER_SECRET", "correct horse battery")]);
    assert!(!format!("{good:?}").contains("horse"));
    assert_eq!(
        good.cluster_secret.unwrap().as_bytes(),
        b"correct horse battery"
    );
    for wrong in ["tooshort", &"x".repeat(1_025)] {
        let message = error(from(&[], &[("CLUSTER_SECRET", wrong)], ""));
        let expected = format!(
            "CLUSTER_SECRET: \"a text of {} bytes\" is not allowed; 16 to 1024 bytes",
            wrong.len()
        );
        assert_eq!(message, expected);
    }
    let allowed = format!(
        "{} to {} bytes",
        bounds::CLUSTER_SECRET_BYTES_MIN,
        bounds::CLUSTER_SECRET_BYTES_MAX
    );
    assert!(message_of_secret().ends_with(&allowed));
}

fn message_of_secret() -> String {
    error(from(&[], &[("CLUSTER_SECRET", "x")], ""))
}

#[test]
fn the_files_of_tls_are_set_together() {
    const CERT: (&str, &str) = ("TLS_CERT_FILE", "/a/cert.pem");
    const KEY: (&str, &str) = ("TLS_KEY_FILE", "/a/key.pem");
    const CA: (&str, &str) = ("TLS_CLIENT_CA_FILE", "/a/ca.pem");
    let mut expected = Config {
        tls_cert_file: Some("/a/cert.pem".into()),
        tls_key_file: Some("/a/key.pem".into()),
        ..Config::default()
    };
    assert_eq!(config(&[CERT, KEY]), expected);
    assert_eq!(expected.tls_files().unwrap().unwrap().client_ca, None);
    expected.tls_client_ca_file = Some("/a/ca.pem".into());
    assert_eq!(config(&[CERT, KEY, CA]), expected);
    assert_eq!(
        expected.tls_files().unwrap(),
        Some(TlsFiles {
            certificate: "/a/cert.pem".into(),
            key: "/a/key.pem".into(),
            client_ca: Some("/a/ca.pem".into()),
        })
    );
    assert_eq!(Config::default().tls_files().unwrap(), None);
    const CLUSTER_CA: (&str, &str) = ("CLUSTER_CA_FILE", "/a/nodes.pem");
    let among = config(&[
        CERT,
        KEY,
        CA,
        CLUSTER_CA,
        ("CLUSTER_TLS_NAME", "weir.example"),
    ]);
    assert_eq!(
        among.node_tls().unwrap(),
        NodeTls {
            authorities: Some("/a/nodes.pem".into()),
            name: Some("weir.example".to_owned()),
            own: among.tls_files().unwrap(),
        }
    );
    config(&[CERT, KEY, CLUSTER_CA, ("CLUSTER_MEMBERS", "10.0.0.2")]);
    for (given, line) in [
        (
            &[CERT][..],
            "TLS_CERT_FILE: \"/a/cert.pem\" is not allowed; only beside TLS_KEY_FILE",
        ),
        (
            &[CERT, CA],
            "TLS_CERT_FILE: \"/a/cert.pem\" is not allowed; only beside TLS_KEY_FILE",
        ),
        (
            &[KEY],
            "TLS_KEY_FILE: \"/a/key.pem\" is not allowed; only beside TLS_CERT_FILE",
        ),
        (
            &[CA],
            "TLS_CLIENT_CA_FILE: \"/a/ca.pem\" is not allowed; only beside TLS_CERT_FILE and TLS_KEY_FILE",
        ),
        (
            &[CERT, KEY, ("CLUSTER_MEMBERS", "10.0.0.2")],
            "TLS_CERT_FILE: \"/a/cert.pem\" is not allowed; only beside CLUSTER_CA_FILE in a cluster: nodes \
             speak TLS to each other then",
        ),
        (
            &[("CLUSTER_TLS_NAME", "weir.example")],
            "CLUSTER_TLS_NAME: \"weir.example\" is not allowed; only beside CLUSTER_CA_FILE",
        ),
        (
            &[CLUSTER_CA, ("CLUSTER_TLS_NAME", "weir example")],
            "CLUSTER_TLS_NAME: \"weir example\" is not allowed; a host name such as weir.example.com",
        ),
    ] {
        assert_eq!(error(from(&[], given, "")), line);
    }
}

#[test]
fn of_the_addresses_that_may_connect_a_wrong_one_is_named() {
    let message = error(from(
        &[],
        &[("ALLOW_FROM", "10.0.0.0/8,10.0.0.0/33,::1")],
        "",
    ));
    assert_eq!(
        message,
        "ALLOW_FROM: \"10.0.0.0/33\" is not allowed; addresses and networks, at most 1024, such as \
         10.0.0.0/8,127.0.0.1,fd00::/8"
    );
    assert!(message.contains(&format!("at most {},", bounds::ALLOW_FROM_MAX)));
}

#[test]
fn weir_is_open_to_everyone_unless_something_keeps_strangers_out() {
    let open = |env: &[(&str, &str)]| config(env).is_open_to_everyone();
    assert!(open(&[]));
    assert!(open(&[("BIND_IP", "203.0.113.1")]));
    assert!(!open(&[("BIND_IP", "127.0.0.1")]));
    assert!(
        !open(&[("ALLOW_FROM", "0.0.0.0/0,::/0")]),
        "somebody has decided it"
    );
    let tls = [("TLS_CERT_FILE", "c"), ("TLS_KEY_FILE", "k")];
    assert!(open(&tls), "a certificate of weir's keeps nobody out");
    assert!(!open(&[tls[0], tls[1], ("TLS_CLIENT_CA_FILE", "a")]));
    let forward = |env: &[(&str, &str)]| config(env).is_forward_open_to_everyone();
    let (port, anywhere) = (("FORWARD_PORT", "1"), ("FORWARD_BIND_IP", "0.0.0.0"));
    assert!(forward(&[port, anywhere]));
    assert!(!forward(&[port]) && !forward(&[anywhere]));
    assert!(!forward(&[port, anywhere, ("ALLOW_FROM", "10.0.0.0/8")]));
    assert!(!forward(&[
        port,
        anywhere,
        ("FORWARD_CREDENTIALS_FILE", "a")
    ]));
}

#[test]
fn a_wrong_override_is_refused_whole() {
    for value in [
        "1", "1:", ":1", "1:0", "1:50001", "a:1", "1:2,", "1:2 ,3:4", "1:2;3:4", "1:-1",
    ] {
        let message = error(from(&[], &[("BOT_RATELIMIT_OVERRIDES", value)], ""));
        assert!(
            message.starts_with(&format!(
                "BOT_RATELIMIT_OVERRIDES: {value:?} is not allowed; pairs"
            )),
            "{message}"
        );
    }
    let twice = error(from(&[], &[("BOT_RATELIMIT_OVERRIDES", "1:2,7:8,1:3")], ""));
    assert!(
        twice.starts_with("BOT_RATELIMIT_OVERRIDES: \"1:3\" is not allowed; pairs"),
        "{twice}"
    );
    assert!(twice.contains("each bot once"), "{twice}");
}

#[test]
fn a_wrong_default_bucket_is_shown_without_those_beside_it() {
    let value = "GET /users/@me=7,POST channels/!/messages=5";
    let tail = "\"POST channels/!/messages=5\" is not allowed; routes as METHOD /path=N, each once, \
                at most 256, such as POST /channels/!/messages=5: one of GET, HEAD, POST, PUT, PATCH \
                and DELETE, a path without /api and with ! for every id, a number 1 to 65535";
    assert_eq!(
        error(from(&[], &[("DEFAULT_BUCKETS", value)], "")),
        format!("DEFAULT_BUCKETS: {tail}")
    );
    let flag = format!("--default-buckets={value}");
    assert_eq!(
        error(from(&[&flag], &[], "")),
        format!("--default-buckets (DEFAULT_BUCKETS): {tail}")
    );
    let allowed = settings()
        .find(|s| s.name == "DEFAULT_BUCKETS")
        .unwrap()
        .allowed;
    assert!(allowed.contains(&format!("at most {},", bounds::DEFAULT_BUCKETS_MAX)));
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let port = |args: &[&str], env: &[(&str, &str)]| {
        from(args, env, "PORT=3\nWORKERS=3").unwrap().config.port
    };
    assert_eq!(port(&["--port", "1"], &[("PORT", "2")]), 1);
    assert_eq!(port(&[], &[("PORT", "2")]), 2);
    assert_eq!(port(&[], &[]), 3);
    assert_eq!(
        port(&[], &[("PORT", " 2\n")]),
        2,
        "outer blanks are nobody's wish"
    );
    assert_eq!(
        port(&[], &[("PORT", "")]),
        8080,
        "set to nothing is set, to the default"
    );
}

#[test]
fn a_switch_needs_no_value_and_takes_the_spellings_of_go() {
    let on = |args: &[&str]| from(args, &[], "").unwrap().config.disable_401_lock;
    assert!(on(&["--disable-401-lock"]));
    assert!(!on(&["--disable-401-lock=false"]));
    for value in ["1", "t", "T", "true", "TRUE", "True"] {
        assert!(
            config(&[("DISABLE_401_LOCK", value)]).disable_401_lock,
            "{value}"
        );
    }
    for value in ["0", "f", "F", "false", "FALSE", "False"] {
        assert!(
            !config(&[("ENABLE_METRICS", value)]).enable_metrics,
            "{value}"
        );
    }
}

#[test]
fn the_log_levels_of_logrus_are_understood() {
    for (name, level) in [
        ("panic", LogLevel::Error),
        ("fatal", LogLevel::Error),
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("warning", LogLevel::Warn),
        ("INFO", LogLevel::Info),
        ("Debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ] {
        assert_eq!(config(&[("LOG_LEVEL", name)]).log_level, level, "{name}");
    }
}

#[test]
fn what_has_no_effect_is_accepted_with_the_reason() {
    for (name, value, why) in [
        ("BUFFER_SIZE", "50", "MAX_WAITING_PER_BUCKET"),
        ("DISABLE_HTTP_2", "true", "HTTP/1.1"),
        ("ENABLE_PPROF", "true", "perf"),
    ] {
        let loaded = from(&[], &[(name, value)], "").unwrap();
        assert_eq!(loaded.config, Config::default());
        let [warning] = &loaded.warnings[..] else {
            panic!("{:?}", loaded.warnings)
        };
        assert!(
            warning.starts_with(name) && warning.contains(why),
            "{warning}"
        );
    }
}

#[test]
fn a_malformed_file_is_named_by_its_line_and_never_quoted() {
    let message = error(from(
        &[],
        &[],
        "PORT=1\n# x\nDISCORD TOKEN hunter2\nWORKERS=2\n",
    ));
    assert_eq!(
        message,
        ".env: line 3 is not allowed; NAME=value, a comment or nothing"
    );
    assert!(error(from(&[], &[], "A='open\n")).starts_with(".env: line 1 "));
}

#[test]
fn credentials_in_a_url_are_not_repeated_and_long_values_are_cut() {
    let message = error(from(
        &[],
        &[("UPSTREAM_URL", "https://me:hunter2@discord.com")],
        "",
    ));
    assert!(
        !message.contains("hunter2") && message.contains("@discord.com"),
        "{message}"
    );
    let message = error(from(&[], &[("PORT", &"é\n".repeat(1_000))], ""));
    assert!(message.len() < 250 && !message.contains('\n'), "{message}");
}

#[test]
fn the_same_port_for_clients_and_metrics_is_wrong_only_if_both_are_served() {
    assert_eq!(
        error(from(&["--port=9000"], &[], "")),
        "METRICS_PORT: 9000 is the port of PORT, too; one of them needs another"
    );
    assert_eq!(
        config(&[("PORT", "9000"), ("ENABLE_METRICS", "false")]).port,
        9000
    );
    assert_eq!(config(&[("PORT", "0"), ("METRICS_PORT", "0")]).port, 0);
}

#[test]
fn the_allowed_ranges_named_in_messages_are_the_bounds() {
    for (name, last) in [
        ("MAX_CONNECTIONS", bounds::CONNECTIONS_MAX),
        ("MAX_CONNECTIONS_PER_CLIENT", bounds::CONNECTIONS_MAX),
        (
            "CLIENT_MIN_RATE",
            usize::try_from(bounds::CLIENT_MIN_RATE_MAX).unwrap(),
        ),
        ("UPSTREAM_MAX_CONNECTIONS", bounds::UPSTREAM_CONNECTIONS_MAX),
        ("MAX_WAITING", bounds::WAITING_MAX),
        ("MAX_WAITING_PER_BUCKET", bounds::WAITING_MAX),
        ("MAX_BUCKETS", bounds::BUCKETS_MAX),
        ("MAX_BEARER_COUNT", bounds::BEARERS_MAX),
        ("WORKERS", bounds::WORKERS_MAX),
    ] {
        let setting = settings().find(|s| s.name == name).unwrap();
        assert!(
            setting.allowed.ends_with(&format!(" {last}")),
            "{name}: {}",
            setting.allowed
        );
        assert!(
            from(&[], &[(name, &last.to_string())], "").is_ok(),
            "{name}"
        );
        assert!(
            from(&[], &[(name, &(last + 1).to_string())], "").is_err(),
            "{name}"
        );
    }
}

#[test]
fn one_worker_is_started_for_each_core_unless_told_otherwise() {
    let count = |workers, cores| {
        Config {
            workers,
            ..Config::default()
        }
        .worker_count(cores)
    };
    assert_eq!(count(None, 8), 8);
    assert_eq!(count(Some(2), 8), 2);
    assert_eq!(count(None, 0), 1);
    assert_eq!(count(Some(0), 8), 1);
    assert_eq!(count(None, 100_000), bounds::WORKERS_MAX);
}

#[test]
fn two_listeners_on_one_port_are_named_both() {
    let members = ("CLUSTER_MEMBERS", "10.0.0.2");
    for (given, second, first) in [
        (&[("METRICS_PORT", "8080")][..], "METRICS_PORT", "PORT"),
        (
            &[("GATEWAY_QUEUE_PORT", "8080")],
            "GATEWAY_QUEUE_PORT",
            "PORT",
        ),
        (
            &[("GATEWAY_QUEUE_PORT", "9000")],
            "GATEWAY_QUEUE_PORT",
            "METRICS_PORT",
        ),
        (&[("FORWARD_PORT", "8080")], "FORWARD_PORT", "PORT"),
        (&[("DPRL_PORT", "8080")], "DPRL_PORT", "PORT"),
        (
            &[("FORWARD_PORT", "7"), ("GATEWAY_QUEUE_PORT", "7")],
            "FORWARD_PORT",
            "GATEWAY_QUEUE_PORT",
        ),
        (
            &[members, ("CLUSTER_PORT", "9000")],
            "CLUSTER_PORT",
            "METRICS_PORT",
        ),
    ] {
        let message = error(from(&[], given, ""));
        let (_, port) = given.last().unwrap();
        let expected =
            format!("{second}: {port} is the port of {first}, too; one of them needs another");
        assert_eq!(message, expected);
    }
    let in_file = error(from(&[], &[], "FORWARD_PORT=8080"));
    assert!(
        in_file.starts_with("FORWARD_PORT in .env: 8080 is"),
        "{in_file}"
    );
    for fine in [
        &[("FORWARD_PORT", "8080"), ("BIND_IP", "127.0.0.2")][..],
        &[("CLUSTER_PORT", "8080")],
        &[members, ("CLUSTER_PORT", "0"), ("PORT", "0")],
        &[("METRICS_PORT", "8080"), ("ENABLE_METRICS", "false")],
    ] {
        assert!(from(&[], fine, "").is_ok(), "{fine:?}");
    }
}

#[test]
fn what_does_nothing_without_another_setting_is_told_of() {
    let warnings = |env: &[(&str, &str)]| from(&[], env, "").unwrap().warnings;
    const SECRET: (&str, &str) = ("CLUSTER_SECRET", "0123456789abcdef");
    let port = ("FORWARD_PORT", "1");
    for (env, expected) in [
        (
            &[("FORWARD_DENY", "a.example"), ("FORWARD_BIND_IP", "::1")][..],
            "FORWARD_BIND_IP and FORWARD_DENY have no effect without FORWARD_PORT: there is no forward proxy",
        ),
        (
            &[("DPRL_MAX_CONNECTIONS", "5")],
            "DPRL_MAX_CONNECTIONS has no effect without FORWARD_PORT: there is no forward proxy",
        ),
        (
            &[("REDIS_ADDR", "redis")],
            "REDIS_ADDR has no effect without FORWARD_PORT: Redis is for the forward proxy alone",
        ),
        (
            &[("REDIS_PASSWORD", "x"), port],
            "REDIS_PASSWORD has no effect without REDIS_ADDR: the forward proxy shares no caps",
        ),
        (
            &[("DISCORD_TOKEN", "a.b.c")],
            "DISCORD_TOKEN has no effect without GATEWAY_QUEUE_PORT: there is no identify queue",
        ),
        (
            &[SECRET, ("CLUSTER_PORT", "7")],
            "CLUSTER_PORT and CLUSTER_SECRET have no effect without CLUSTER_MEMBERS or CLUSTER_DNS: this weir is no \
             node of a cluster",
        ),
        (
            &[("METRICS_PORT", "7"), ("ENABLE_METRICS", "false")],
            "METRICS_PORT has no effect with ENABLE_METRICS=false",
        ),
        (
            &[("UPSTREAM_CA_FILE", "/a"), ("UPSTREAM_URL", "http://a")],
            "UPSTREAM_CA_FILE has no effect with UPSTREAM_URL=http://…: nobody shows a certificate",
        ),
        (
            &[("DPRL_PORT", "2"), port],
            "DPRL_PORT has no effect: FORWARD_PORT is set as well, to 1, and holds",
        ),
        (
            &[("DEFAULT_BUCKETS", "POST /chanels/!/messages=5")],
            "DEFAULT_BUCKETS: \"POST /chanels/!/messages\" is no route that weir knows of Discord, because of \
             \"chanels\"; did you mean \"channels\"?",
        ),
    ] {
        assert_eq!(warnings(env), [expected]);
    }
    for silent in [
        &[port, ("FORWARD_DENY", "a.example")][..],
        &[port, ("REDIS_ADDR", "redis"), ("REDIS_DB", "1")],
        &[("DPRL_PORT", "1"), port],
        &[SECRET, ("CLUSTER_DNS", "a")],
        &[("DISCORD_TOKEN", "a.b.c"), ("GATEWAY_QUEUE_PORT", "1")],
        &[("DEFAULT_BUCKETS", "POST /channels/!/messages=5")],
    ] {
        assert!(warnings(silent).is_empty(), "{:?}", warnings(silent));
    }
}

#[test]
fn what_was_set_is_known_with_its_place_and_without_secrets() {
    let env = [
        ("PORT", "8080"),
        ("REDIS_ADDR", "redis://me:hunter2@r:7"),
        ("FORWARD_PORT", "7"),
    ];
    let dot_env = "CLUSTER_SECRET=correct horse\nMETRIC_PORT=1\nREDIS_PASSWORD=hunter3\n"
        .replace("correct horse", "\"correct horse battery\"");
    let loaded = from(&["--workers", "2"], &env, &dot_env).unwrap();
    let given: Vec<_> = loaded
        .given
        .iter()
        .map(|given| (given.name, given.place, &*given.value, given.is_default))
        .collect();
    let expected = [
        ("PORT", Place::Environment, "8080", true),
        ("CLUSTER_SECRET", Place::DotEnv, "…", false),
        ("FORWARD_PORT", Place::Environment, "7", false),
        ("REDIS_ADDR", Place::Environment, "redis://…@r:7", false),
        ("REDIS_PASSWORD", Place::DotEnv, "…", false),
        ("WORKERS", Place::Flag, "2", false),
    ];
    assert_eq!(given, expected);
    assert_eq!(loaded.unknown_in_dot_env, ["METRIC_PORT"]);
    assert_eq!(misspelt_setting("METRIC_PORT"), Some("METRICS_PORT"));
    assert_eq!(misspelt_setting("SSL_CERT_FILE"), None, "OpenSSL's");
    let without_scheme = error(from(
        &[],
        &[("REDIS_ADDR", "default:hunter2@redis:6379")],
        "",
    ));
    assert!(!without_scheme.contains("hunter2"), "{without_scheme}");
    let secrets: Vec<_> = settings().filter(|s| s.is_secret()).collect();
    let secrets: Vec<_> = secrets.iter().map(|secret| secret.name).collect();
    assert_eq!(
        secrets,
        [
            "DISCORD_TOKEN",
            "CLUSTER_SECRET",
            "REDIS_PASSWORD",
            "ADMIN_TOKEN"
        ]
    );
}

#[test]
fn the_form_of_the_log_is_known_whatever_else_is_wrong() {
    let format = |env: &[(&str, &str)], dot_env| from(&[], env, dot_env).unwrap_err().log_format;
    let wrong = ("PORT", "x");
    assert_eq!(format(&[wrong], ""), LogFormat::Text);
    assert_eq!(
        format(&[wrong, ("LOG_FORMAT", "JSON")], ""),
        LogFormat::Json
    );
    assert_eq!(format(&[wrong], "LOG_FORMAT=json"), LogFormat::Json);
    assert_eq!(format(&[("LOG_FORMAT", "xml")], ""), LogFormat::Text);
}

#[test]
fn every_value_has_a_word_that_says_what_it_is() {
    let unit = |name| settings().find(|s| s.name == name).unwrap().unit();
    for (name, expected) in [
        ("PORT", "PORT"),
        ("REQUEST_TIMEOUT", "MS"),
        ("RETRIES", "N"),
        ("STATE_FILE", "FILE"),
        ("BIND_IP", "IP"),
        ("RETRY_SHARED", "BOOL"),
        ("ALLOW_FROM", "LIST"),
        ("DISCORD_TOKEN", "SECRET"),
        ("LOG_LEVEL", "VALUE"),
    ] {
        assert_eq!(unit(name), expected, "{name}");
    }
}
