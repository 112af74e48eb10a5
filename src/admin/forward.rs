//! The caps of the forward proxy, read and changed at run time.
//!
//! | request | does |
//! |---|---|
//! | `GET /forward/limits` | the default, the limits of single hosts, and connections by host, as JSON |
//! | `PUT /forward/limits`, body `25` | sets the default; 0 for none |
//! | `PUT /forward/limits/api.example.com`, body `5` | gives a host its own; 0 takes it away |
//! | `DELETE /forward/limits/api.example.com` | takes it away |
//!
//! With Redis, `connections` is of this proxy, `fleet` of all, for the hosts that this one names, and
//! `redis` says how it stands and how many proxies there are.
//!
//! For operators alone (`gate`): whoever may scrape metrics need not be one who may open a host to a
//! flood.

use super::answer::Answer;
use super::control::changed;
use super::pages::Asked;
use crate::config::bounds::FORWARD_CAP_MAX;
use crate::egress::Limits;
use crate::egress::limits::NotChanged;

/// Where the caps are.
pub(super) const PATH: &str = "/forward/limits";

/// What the caps of single hosts are below.
pub(super) const HOSTS: &str = "/forward/limits/";

/// Largest body: the digits of a cap and a line end.
pub(super) const BODY_BYTES_MAX: usize = 16;

/// Why nothing was done.
type Failed = (u16, &'static str);

/// `GET /forward/limits`
pub(super) fn read(asked: &Asked<'_>) -> Answer {
    done(asked, |_| Ok(()))
}

/// `PUT /forward/limits`
pub(super) fn set_default(asked: &Asked<'_>) -> Answer {
    done(asked, |limits| {
        let cap = cap(asked.body)?;
        let was = limits.default_max_connections();
        limits.set_default_max_connections(cap);
        changed(asked, "the forward proxy's default limit", &was, &cap);
        Ok(())
    })
}

/// `PUT /forward/limits/…`
pub(super) fn set_host(asked: &Asked<'_>) -> Answer {
    done(asked, |limits| {
        let (host, cap) = (host(asked)?, cap(asked.body)?);
        let was = shown(limits, host);
        limits.set_host_limit(host, cap).map_err(|why| match why {
            NotChanged::NotAHost => NOT_A_HOST,
            NotChanged::TooMany => (409, "too many hosts have a limit of their own"),
        })?;
        changed(
            asked,
            &format!("limit of {host}"),
            &was,
            &shown(limits, host),
        );
        Ok(())
    })
}

/// `DELETE /forward/limits/…`
pub(super) fn remove_host(asked: &Asked<'_>) -> Answer {
    done(asked, |limits| {
        let host = host(asked)?;
        let was = shown(limits, host);
        if limits.remove_host_limit(host) {
            changed(
                asked,
                &format!("limit of {host}"),
                &was,
                &shown(limits, host),
            );
            Ok(())
        } else {
            Err((404, "this host has no limit of its own"))
        }
    })
}

/// Does it, and answers with what holds then.
fn done(asked: &Asked<'_>, what: impl FnOnce(&Limits) -> Result<(), Failed>) -> Answer {
    let Some(limits) = &asked.process.forward else {
        return Answer::error(404, "there is no forward proxy: FORWARD_PORT is not set");
    };
    match what(limits) {
        Ok(()) => Answer::json(describe(limits)),
        Err((status, message)) => Answer::error(status, message),
    }
}

/// A host's own limit, for the log.
fn shown(limits: &Limits, host: &str) -> String {
    let known = limits.host_limits();
    let own = known
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(host));
    own.map_or_else(|| "the default".to_owned(), |(_, cap)| cap.to_string())
}

const NOT_A_HOST: Failed = (400, "not a host, nor a host with a port");

fn host<'r>(asked: &Asked<'r>) -> Result<&'r str, Failed> {
    asked.behind(HOSTS).ok_or(NOT_A_HOST)
}

fn cap(body: &[u8]) -> Result<u32, Failed> {
    let text = std::str::from_utf8(body).unwrap_or_default().trim();
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let cap = plain.then(|| text.parse().ok()).flatten();
    cap.filter(|&cap: &u32| cap <= FORWARD_CAP_MAX)
        .ok_or((400, "the body is no number from 0 to 1048576"))
}

fn describe(limits: &Limits) -> String {
    let hosts: serde_json::Map<_, _> = limits
        .host_limits()
        .into_iter()
        .map(|(host, limit)| (host, limit.into()))
        .collect();
    let (named, others) = limits.tallies();
    let fleet: serde_json::Map<_, _> = named
        .iter()
        .map(|(host, _)| (host.clone(), limits.active_connections(host).into()))
        .collect();
    let connections: serde_json::Map<_, _> = named
        .into_iter()
        .map(|(host, tally)| (host, tally.active.into()))
        .chain([("other".to_owned(), others.active.into())])
        .collect();
    let mut all = serde_json::json!({
        "default": limits.default_max_connections(),
        "hosts": hosts,
        "connections": connections,
    });
    if let Some(counters) = limits.fleet() {
        let (standing, proxies) = (counters.standing.as_str(), counters.fleet);
        all["redis"] = serde_json::json!({ "standing": standing, "proxies": proxies });
        all["fleet"] = fleet.into();
    }
    all.to_string() + "\n"
}
