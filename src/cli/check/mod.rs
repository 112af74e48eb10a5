//! `weir check`: would a start succeed, and could the weir that started do its work?
//!
//! It loads the settings, certificates and rules by the functions that serve, connects to the upstream
//! through the runtime and the TLS that workers use, and binds each port for a moment. Nothing is left
//! behind: no connection, no file, nothing in Redis but cached scripts.

mod cluster;
mod machine;
mod ports;
mod report;
mod upstream;

use std::io;

use crate::clock;
use crate::config::{Config, GivenSetting, Loaded, misspelt_setting};
use crate::egress;
use crate::server;
use crate::tls::{Credentials, NodeTrust};
use crate::upstream::trust;

use report::{Report, Tried};

/// Checks everything and prints it as it is found out; returns the status to exit with.
pub fn run(loaded: &Loaded) -> u8 {
    let mut report = Report::new(io::stdout(), super::colours());
    settings(&mut report, loaded);
    let config = &loaded.config;
    report.heading("This machine");
    let driver = machine::driver(&mut report, config);
    machine::open_files(&mut report, config);
    machine::state_file(&mut report, config);
    ports::all(&mut report, config);
    report.heading("Files and rules");
    files(&mut report, config);
    report.heading(&format!("Upstream {}", config.upstream));
    upstream::reach(&mut report, config, driver);
    if config.is_clustered() {
        report.heading("Cluster");
        cluster::names(&mut report, config);
    }
    if let (Some(redis), Some(_)) = (config.redis(), config.forward.port) {
        report.heading("Redis");
        let tried = report.trying("Redis");
        match egress::shared::try_out(&redis) {
            Ok(()) => tried.ok(&format!("{} answers, and lets weir in", redis.address)),
            Err(error) if error.is_a_mistake() => {
                let setting = error.setting();
                tried.wrong(
                    &format!("{} refuses: {error}", redis.address),
                    &format!("mend {setting}"),
                );
            }
            Err(error) => tried.failed(
                &format!("{} cannot be reached: {error}", redis.address),
                "is it up, and REDIS_ADDR right? Until it can, REDIS_FAIL holds",
            ),
        }
    }
    report.end()
}

/// What was set, and what of it is odd.
fn settings(report: &mut Report, loaded: &Loaded) {
    report.heading(&format!(
        "weir {}: settings that are not the default",
        env!("CARGO_PKG_VERSION")
    ));
    let given: Vec<_> = loaded
        .given
        .iter()
        .filter(|given| !given.is_default)
        .collect();
    for GivenSetting {
        name, place, value, ..
    } in &given
    {
        report.setting(name, value, &place.to_string());
    }
    if given.is_empty() {
        report.note("none");
    }
    for warning in &loaded.warnings {
        report.trying("setting").warning(warning, "");
    }
    let env = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let env = env.map(|name| (name, ""));
    let in_file = loaded.unknown_in_dot_env.iter().cloned();
    let in_file = in_file.map(|name| (name, " in the file"));
    for (name, place) in env.chain(in_file) {
        if let Some(meant) = misspelt_setting(&name) {
            report.trying("setting").warning(
                &format!("{name}{place} is no setting of weir's"),
                &format!("{meant} is one; was that meant?"),
            );
        }
    }
}

/// What a start reads.
fn files(report: &mut Report, config: &Config) {
    if config.upstream.tls {
        let tried = report.trying("authorities");
        match (
            trust::client_config(config.upstream_ca_file.as_deref()),
            &config.upstream_ca_file,
        ) {
            (Ok(_), None) => tried.ok("Mozilla's are trusted for the upstream"),
            (Ok(_), Some(path)) => tried.ok(&format!(
                "those of {path:?} alone are trusted for the upstream"
            )),
            (Err(error), _) => tried.start_error(&error),
        }
    }
    let tried = report.trying("TLS for clients");
    match Credentials::load(config, clock::unix_ms() / 1000) {
        Ok(None) => tried.ok("none: clients speak plain HTTP"),
        Ok(Some(credentials)) => certificate(tried, &credentials, clock::unix_ms() / 1000),
        Err(error) => tried.start_error(&error),
    }
    if let (true, Some(path)) = (config.is_clustered(), &config.cluster_ca_file) {
        let tried = report.trying("TLS between nodes");
        match NodeTrust::load(config) {
            Ok(_) => tried.ok(&format!("those of {path:?} are trusted for other nodes")),
            Err(error) => tried.start_error(&error),
        }
    }
    if let Err(error) = server::check_default_buckets(config) {
        report.trying("DEFAULT_BUCKETS").start_error(&error);
    }
    if let (Some(path), Some(_)) = (&config.forward.credentials_file, config.forward.port) {
        let tried = report.trying("credentials");
        match egress::proxy::read_credentials(path) {
            Ok(_) => tried.ok(&format!("{path:?} says who may use the forward proxy")),
            Err(error) => tried.start_error(&error),
        }
    }
    if config.is_open_to_everyone() {
        report.trying("who may come in").warning(
            "whoever reaches this machine can use weir",
            "ALLOW_FROM, BIND_IP or TLS_CLIENT_CA_FILE keep strangers out",
        );
    }
    if config.is_forward_open_to_everyone() {
        report.trying("who may come in").warning(
            "whoever reaches this machine can use the forward proxy",
            "ALLOW_FROM, FORWARD_BIND_IP or FORWARD_CREDENTIALS_FILE keep strangers out",
        );
    }
}

/// How long weir's own certificate is good for.
fn certificate(tried: Tried<'_>, credentials: &Credentials, unix_s: u64) {
    let certificate = credentials.leaf();
    let about = certificate.about();
    let now = i64::try_from(unix_s).unwrap_or(i64::MAX);
    match certificate.days_left(now) {
        Some(days) if days < 0 => tried.failed(
            &about,
            "it has expired: clients refuse it; renew it, then SIGHUP",
        ),
        Some(days) if days < RENEW_DAYS => tried.warning(&about, "renew it soon, then SIGHUP"),
        Some(_) if certificate.is_early(now) => {
            tried.failed(&about, "it is not valid yet; is the clock right?");
        }
        Some(_) | None => tried.ok(&about),
    }
}

/// Days that are left of a certificate from which on somebody should look: what renews them by itself
/// does so a third of 90 days before the end, so this one was forgotten.
pub(super) const RENEW_DAYS: i64 = 14;
