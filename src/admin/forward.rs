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
//! Only from this machine (a loopback address), whatever `ALLOW_FROM` says: whoever may scrape metrics
//! need not be one who may open a host to a flood.

use crate::config::bounds::FORWARD_CAP_MAX;
use crate::egress::Limits;
use crate::egress::limits::NotChanged;
use crate::http1::Reply;

/// What the paths here begin with.
pub(super) const PREFIX: &[u8] = b"/forward/";

/// Largest body: the digits of a cap and a line end.
pub(super) const BODY_BYTES_MAX: usize = 16;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Read,
    Write,
    Remove,
}

/// Does it, and writes the answer.
pub(super) fn answer(
    verb: Verb,
    path: &[u8],
    body: &[u8],
    limits: Option<&Limits>,
    out: &mut Vec<u8>,
) {
    let Some(limits) = limits else {
        return Reply::error(404, "there is no forward proxy: FORWARD_PORT is not set")
            .encode(false, out);
    };
    let Some(host) = host(path) else {
        return Reply::error(404, "limits are at /forward/limits").encode(false, out);
    };
    let done = match (verb, host) {
        (Verb::Read, None) => Ok(()),
        (Verb::Write, host) => match cap(body) {
            None => Err((400, "the body is no number from 0 to 1048576")),
            Some(cap) => set(limits, host, cap),
        },
        (Verb::Remove, Some(host)) if limits.remove_host_limit(host) => Ok(()),
        (Verb::Remove, Some(_)) => Err((404, "this host has no limit of its own")),
        (Verb::Read, Some(_)) | (Verb::Remove, None) => Err((
            405,
            "single hosts are set and removed, all are read at /forward/limits",
        )),
    };
    match done {
        Ok(()) => Reply::json(200, describe(limits).as_bytes()).encode(false, out),
        Err((status, message)) => Reply::error(status, message).encode(false, out),
    }
}

/// The host in a path; `None` inside for all of them.
fn host(path: &[u8]) -> Option<Option<&str>> {
    let rest = path.strip_prefix(b"/forward/limits")?;
    match rest {
        b"" => Some(None),
        [b'/', host @ ..] => Some(Some(std::str::from_utf8(host).ok()?)),
        _ => None,
    }
}

fn set(limits: &Limits, host: Option<&str>, cap: u32) -> Result<(), (u16, &'static str)> {
    let Some(host) = host else {
        limits.set_default_max_connections(cap);
        tracing::info!(cap, "the forward proxy's default limit was changed");
        return Ok(());
    };
    limits.set_host_limit(host, cap).map_err(|why| match why {
        NotChanged::NotAHost => (400, "not a host, nor a host with a port"),
        NotChanged::TooMany => (409, "too many hosts have a limit of their own"),
    })?;
    tracing::info!(host, cap, "a host's limit was changed");
    Ok(())
}

fn cap(body: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let cap = plain.then(|| text.parse().ok())?;
    cap.filter(|&cap: &u32| cap <= FORWARD_CAP_MAX)
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
