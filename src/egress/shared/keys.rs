//! Names in Redis: dprl's for what dprl must see, others for what it must not.
//!
//! dprl finds its counters by the pattern `proxy_rate_limiter:<host>:*` and reads each key that fits as
//! a number, so that nothing but counters may have such a name.

use crate::egress::hosts::HostKey;

/// What counters of connections begin with; dprl's.
pub(crate) const PREFIX: &str = "proxy_rate_limiter:";

/// What finds all counters of all hosts.
pub(crate) const ALL: &str = "proxy_rate_limiter:*";

/// The index: the workers of the fleet, sorted by when each was last seen (Redis' clock, milliseconds).
pub(crate) const WORKERS: &str = "weir:forward:workers";

/// Which start of Redis the index is of.
pub(crate) const RUN: &str = "weir:forward:run";

/// When that start was noticed (Redis' clock, milliseconds).
pub(crate) const SINCE: &str = "weir:forward:since";

/// Held by whoever looks for workers of dprl now.
pub(crate) const SCAN: &str = "weir:forward:scan";

/// What the names of weir's workers begin with; dprl's begin with `worker-`.
const OURS: &str = "weir-";

/// Longest name of a worker that is believed to be one: dprl's have 30 bytes or so.
const WORKER_BYTES_MAX: usize = 128;

/// The key of `worker`'s counter of connections to `host`.
pub(crate) fn counter(host: &HostKey, worker: &str) -> String {
    format!("{PREFIX}{host}:{worker}")
}

/// What the keys of all counters of `host` begin with.
pub(crate) fn of_host(host: &HostKey) -> String {
    format!("{PREFIX}{host}:")
}

/// The key of the number of `worker`'s newest connection to Redis.
pub(crate) fn epoch(worker: &str) -> String {
    format!("weir:forward:epoch:{worker}")
}

/// A name for a worker of weir's that no other has.
pub(crate) fn worker(unix_ms: u64, chance: u64) -> Box<str> {
    format!("{OURS}{unix_ms}-{chance:016x}").into()
}

/// Whether `worker` is weir's and not dprl's.
pub(crate) fn is_ours(worker: &str) -> bool {
    worker.starts_with(OURS)
}

/// The worker of dprl whose counter has the name `key`, if that is what it is. The name ends with the
/// worker's, which has no colon; hosts may.
pub(crate) fn foreign_worker(key: &[u8]) -> Option<&str> {
    let (host, worker) = str::from_utf8(key)
        .ok()?
        .strip_prefix(PREFIX)?
        .rsplit_once(':')?;
    let sound = !host.is_empty() && (1..=WORKER_BYTES_MAX).contains(&worker.len());
    (sound && !is_ours(worker)).then_some(worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_the_names_that_dprl_looks_for_and_nothing_else_has() {
        let host = HostKey::parse("[2001:db8::1]:8443").unwrap();
        let mine = worker(1_700_000_000_000, 7);
        assert_eq!(
            counter(&host, &mine),
            "proxy_rate_limiter:[2001:db8::1]:8443:weir-1700000000000-0000000000000007"
        );
        assert_eq!(of_host(&host) + &mine, counter(&host, &mine));
        for other in [WORKERS, RUN, SINCE, SCAN, &epoch(&mine)] {
            assert!(!other.starts_with("proxy_rate_limiter"), "{other}");
        }
        assert!(ALL.strip_suffix('*') == Some(PREFIX));
    }

    #[test]
    fn a_worker_of_dprls_is_read_from_its_key_and_weirs_are_not() {
        for (key, worker) in [
            ("proxy_rate_limiter:a.b:worker-17-1", Some("worker-17-1")),
            (
                "proxy_rate_limiter:a.b:8443:worker-17-1",
                Some("worker-17-1"),
            ),
            ("proxy_rate_limiter:[::1]:7:w", Some("w")),
            ("proxy_rate_limiter:::1:w", Some("w")),
            ("proxy_rate_limiter:a.b:weir-1-2", None),
            ("proxy_rate_limiter:a.b:", None),
            ("proxy_rate_limiter:a.b", None),
            ("proxy_rate_limiter::w", None),
            ("other:a.b:w", None),
        ] {
            assert_eq!(foreign_worker(key.as_bytes()), worker, "{key}");
        }
        assert_eq!(foreign_worker(b"proxy_rate_limiter:a:\xff"), None);
        let long = format!("proxy_rate_limiter:a:{}", "w".repeat(129));
        assert_eq!(foreign_worker(long.as_bytes()), None);
    }
}
