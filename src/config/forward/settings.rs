//! The rows of `--help` and their values.

use std::collections::BTreeMap;

use super::RejectStatus;
use crate::config::bounds::{self, TIMEOUT_MS, TIMEOUT_OR_ZERO_MS};
use crate::config::setting::{
    Effect, PATH_ALLOWED, PORT_ALLOWED, Setting, TIMEOUT_ALLOWED, count, millis, number, parse,
    path, port, set,
};
use crate::destination::HostKey;

const CAP_ALLOWED: &str = "a number 0 to 1048576";
const PATTERNS_ALLOWED: &str = "hosts and networks, each with a port or without, at most 1024, such as *.example.com,example.com:443,10.0.0.0/8,[fd00::1]:443";

/// The settings of the forward proxy. dprl's names come first, so that weir's own hold where both are
/// set.
pub(in crate::config) const FORWARD: &[Setting] = &[
    Setting {
        name: "DPRL_PORT",
        help: "The same as FORWARD_PORT, which holds where both are set",
        default: "",
        allowed: PORT_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.forward.port, Some(Some(port(v)?)))),
    },
    Setting {
        name: "FORWARD_PORT",
        help: "Port of the forward proxy; 0 takes a free one; unset, there is none",
        default: "",
        allowed: PORT_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.forward.port, Some(Some(port(v)?)))),
    },
    Setting {
        name: "FORWARD_BIND_IP",
        help: "Address to serve the forward proxy on",
        default: "127.0.0.1",
        allowed: "an IP address such as 127.0.0.1 or ::",
        effect: Effect::Sets(|c, v| set(&mut c.forward.bind_ip, parse(v))),
    },
    Setting {
        name: "DPRL_MAX_CONNECTIONS",
        help: "The same as FORWARD_MAX_CONNECTIONS, which holds where both are set",
        default: "0",
        allowed: CAP_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.forward.max_connections, cap(v))),
    },
    Setting {
        name: "FORWARD_MAX_CONNECTIONS",
        help: "Connections to each host at a time; 0 for no limit",
        default: "0",
        allowed: CAP_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.forward.max_connections, cap(v))),
    },
    Setting {
        name: "FORWARD_HOST_LIMITS",
        help: "The same for single hosts, as host=N, separated by commas; 0 frees a host of the limit of all",
        default: "",
        allowed: "hosts as host=N or host:port=N, each once, at most 1024, such as api.example.com=5: a number 0 to 1048576",
        effect: Effect::Lists(|c, v| {
            c.forward.host_limits = host_limits(v)?;
            Ok(())
        }),
    },
    Setting {
        name: "FORWARD_REJECT_STATUS",
        help: "What a client beyond the limit is told: 500, as dprl, or 503 with Retry-After",
        default: "500",
        allowed: "500 or 503",
        effect: Effect::Sets(|c, v| set(&mut c.forward.reject_status, reject_status(v))),
    },
    Setting {
        name: "FORWARD_QUEUE_TIMEOUT",
        help: "Milliseconds that a client beyond the limit waits for its turn before it is told so; 0 for no waiting",
        default: "0",
        allowed: "milliseconds 0 to 3600000",
        effect: Effect::Sets(|c, v| {
            let wait = millis(v, TIMEOUT_OR_ZERO_MS)?;
            set(
                &mut c.forward.queue_timeout,
                Some((!wait.is_zero()).then_some(wait)),
            )
        }),
    },
    Setting {
        name: "FORWARD_ALLOW",
        help: "The only hosts and networks that may be reached, separated by commas; unset, all with a public address",
        default: "",
        allowed: PATTERNS_ALLOWED,
        effect: Effect::Lists(|c, v| {
            let patterns = v.parse().map_err(|super::NotAPattern(entry)| entry)?;
            c.forward.allow = Some(patterns);
            Ok(())
        }),
    },
    Setting {
        name: "FORWARD_DENY",
        help: "Hosts and networks that may not be reached, separated by commas",
        default: "",
        allowed: PATTERNS_ALLOWED,
        effect: Effect::Lists(|c, v| {
            c.forward.deny = v.parse().map_err(|super::NotAPattern(entry)| entry)?;
            Ok(())
        }),
    },
    Setting {
        name: "FORWARD_CREDENTIALS_FILE",
        help: "File of those who may use the forward proxy, user:password on each line; unset, whoever may connect",
        default: "",
        allowed: PATH_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.forward.credentials_file, path(v))),
    },
    Setting {
        name: "FORWARD_CONNECT_TIMEOUT",
        help: "Milliseconds for looking a host up and connecting to it",
        default: "10000",
        allowed: TIMEOUT_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.forward.connect_timeout, millis(v, TIMEOUT_MS))),
    },
    Setting {
        name: "FORWARD_IDLE_TIMEOUT",
        help: "Milliseconds that a tunnel may be silent",
        default: "300000",
        allowed: TIMEOUT_ALLOWED,
        effect: Effect::Sets(|c, v| set(&mut c.forward.idle_timeout, millis(v, TIMEOUT_MS))),
    },
    Setting {
        name: "FORWARD_MAX_CLIENTS",
        help: "Client connections of the forward proxy",
        default: "16384",
        allowed: "a number 1 to 1048576",
        effect: Effect::Sets(|c, v| {
            set(
                &mut c.forward.max_clients,
                count(v, 1..=bounds::CONNECTIONS_MAX),
            )
        }),
    },
];

fn cap(value: &str) -> Option<u32> {
    number(value).filter(|cap| *cap <= bounds::FORWARD_CAP_MAX)
}

fn reject_status(value: &str) -> Option<RejectStatus> {
    match value {
        "500" => Some(RejectStatus::InternalServerError),
        "503" => Some(RejectStatus::ServiceUnavailable),
        _ => None,
    }
}

/// `host=N,…`; what is wrong is returned.
fn host_limits(list: &str) -> Result<BTreeMap<HostKey, u32>, String> {
    let mut limits = BTreeMap::new();
    for entry in list.split(',').map(str::trim) {
        let wrong = || entry.to_owned();
        let (host, limit) = entry.rsplit_once('=').ok_or_else(wrong)?;
        let host = HostKey::parse(host.trim()).ok_or_else(wrong)?;
        let limit = cap(limit.trim()).ok_or_else(wrong)?;
        if limits.len() >= bounds::FORWARD_HOST_LIMITS_MAX || limits.insert(host, limit).is_some() {
            return Err(wrong());
        }
    }
    Ok(limits)
}
