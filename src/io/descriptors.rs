//! How many descriptors the process may have open, and who gets how many of them.
//!
//! ```text
//! ├── own: workers, metrics, DNS, files ──┼── forward proxy ──┼── to the upstream ──┼─── clients ───┤
//!                               at most a quarter of the rest   half of the rest          limit
//! ```
//! Clients come uninvited, so what everything else needs is set aside before them: with the last
//! descriptor gone, weir could neither reach Discord nor say so.

use std::io;

/// Set aside for the process: three standard streams, the metrics port and its 16 connections,
/// name resolution (a socket for each server that is asked, the files of its configuration), the state
/// file and the one that replaces it, certificates that are read again; and as many to spare.
const OWN: usize = 64;

/// Set aside for each worker: its listener, ring or epoll, event and timer, the clients that are being
/// told that there is no place ([`TURNED_AWAY_MAX`]), and connections whose close is still on its way
/// through the ring.
const OWN_OF_WORKER: usize = TURNED_AWAY_MAX + 32;

/// Clients of one worker that are told at a time that there is no place; more are just closed. At
/// the second that each of them has, a worker tells this many a second at the least.
pub const TURNED_AWAY_MAX: usize = 64;

/// Descriptors of one client of the forward proxy: its own and its host's, and half a one, since a dial
/// tries several addresses for a moment.
const OF_FORWARDED: usize = 3;

/// Who gets how many descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shares {
    /// Client connections of the process.
    pub clients: usize,
    /// Upstream connections of each worker.
    pub upstream: usize,
    /// Connections of each worker to each other node: one for each of its clients.
    pub nodes: usize,
    /// Clients of the forward proxy, each of which needs two.
    pub forward: usize,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// `MAX_CONNECTIONS`.
    pub clients: usize,
    /// `UPSTREAM_MAX_CONNECTIONS`, of each worker.
    pub upstream: usize,
    /// Workers.
    pub workers: usize,
    /// Requests are relayed to other nodes, each over a connection of its own.
    pub relays: bool,
    /// `FORWARD_MAX_CLIENTS`; 0 without a forward proxy.
    pub forward: usize,
}

impl Shares {
    /// Divides `limit` descriptors, of which `open` are in use already. Each share is 1 at the least:
    /// with fewer nothing could be served, and the start is no place to guess that nothing will be.
    pub fn of(limit: u64, open: usize, wanted: Wanted) -> Self {
        let Wanted {
            clients,
            upstream,
            workers,
            relays,
            forward,
        } = wanted;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let room = limit.saturating_sub(open);
        // A limit that is far too low is still shared.
        let own = (OWN + workers * OWN_OF_WORKER).min(room / 2);
        let room = room - own;
        // Discord comes first: three quarters are for its clients and its connections.
        let forward = forward.min(room / 4 / OF_FORWARDED);
        let room = room - OF_FORWARDED * forward;
        let each = upstream.min(room / 2 / workers.max(1)).max(1);
        let rest = room.saturating_sub(each * workers);
        let rest = if relays { rest / 2 } else { rest };
        let clients = clients.min(rest).max(1);
        Self {
            clients,
            upstream: each,
            nodes: clients.div_ceil(workers.max(1)),
            forward,
        }
    }
}

/// The process's limit of open descriptors, as it is.
///
/// # Errors
/// The kernel refuses to say.
pub fn limit() -> io::Result<u64> {
    read().map(|limit| limit.rlim_cur)
}

/// Raises the process's limit of open descriptors to the most it may set itself, and returns that.
/// Shells start programs with 1,024, which is fewer than a fleet has connections.
///
/// # Errors
/// The kernel refuses, and the limit is as it was.
pub fn raise_limit() -> io::Result<u64> {
    let mut limit = read()?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the pointer names `limit`, which outlives the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

fn read() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer names `limit`, which outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit)
}

/// How many descriptors are open now; 0 where `/proc` is not to be had.
pub fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_the_most_there_is() {
        let first = raise_limit().unwrap();
        assert_eq!(raise_limit().unwrap(), first);
        assert_eq!(limit().unwrap(), first);
        assert!(first >= 1024);
        assert!(open() >= 3);
    }

    #[test]
    fn clients_get_what_the_upstream_and_the_process_itself_leave() {
        let of = |limit, clients, upstream, workers| {
            let wanted = Wanted {
                clients,
                upstream,
                workers,
                relays: false,
                forward: 0,
            };
            let shares = Shares::of(limit, 10, wanted);
            let own = OWN + workers * OWN_OF_WORKER;
            if limit as usize > 2 * own + 10 + 2 * workers {
                let sum = shares.clients + shares.upstream * workers + own + 10;
                assert!(sum <= limit as usize, "{wanted:?} of {limit}: {shares:?}");
            }
            (shares.clients, shares.upstream)
        };
        assert_eq!(of(1 << 20, 65_536, 512, 2), (65_536, 512), "enough for all");
        assert_eq!(of(u64::MAX, 1 << 20, 28_232, 256), (1 << 20, 28_232));
        assert_eq!(of(20_000, 65_536, 512, 2), (18_710, 512));
        assert_eq!(
            of(20_000, 100, 512, 2),
            (100, 512),
            "no more than asked for"
        );
        assert_eq!(of(1_024, 65_536, 512, 2), (380, 189), "half and half");
        assert_eq!(
            of(1_024, 65_536, 512, 64),
            (315, 3),
            "far too low for 64 workers"
        );
        assert_eq!(of(0, 65_536, 512, 2), (1, 1));
    }

    #[test]
    fn the_forward_proxy_leaves_three_quarters_to_the_others() {
        let wanted = Wanted {
            clients: 65_536,
            upstream: 512,
            workers: 2,
            relays: false,
            forward: 16_384,
        };
        let of = |limit| Shares::of(limit, 10, wanted);
        assert_eq!(of(1 << 20).forward, 16_384, "enough for all");
        let tight = of(20_000);
        assert_eq!((tight.forward, tight.upstream), (1_644, 512));
        assert_eq!(tight.clients, 18_710 - 3 * 1_644);
        let room = 20_000 - 10 - OWN - 2 * OWN_OF_WORKER;
        assert!(tight.clients + 2 * tight.upstream >= room / 4 * 3);
    }
}
