//! What all threads of one forward proxy share.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::common::Common;
use super::hosts::credentials::Credentials;
use super::hosts::reach::Reach;
use super::hosts::slots::Slots;
use super::lookup::Lookup;
use super::post::Post;
use super::proxy::Options;
use super::shared::Fleet;
use crate::config::{AllowFrom, forward};
use crate::metrics::{Forward, ForwardRefusal};
use crate::places::Places;

/// One running forward proxy.
pub(super) struct Hub {
    pub(super) settings: forward::Forward,
    pub(super) allow_from: AllowFrom,
    pub(super) outbound_ip: Option<IpAddr>,
    pub(super) header_timeout: std::time::Duration,
    pub(super) client_idle_timeout: std::time::Duration,
    pub(super) reach: Reach,
    /// Who may use it; locked for reading while one request's are compared.
    credentials: Option<RwLock<Credentials>>,
    /// Counts and lines of all hosts; see [`super::limits`].
    pub(super) slots: Mutex<Slots>,
    /// What is shared with other proxies.
    pub(super) common: Option<Common>,
    pub(super) lookup: Lookup,
    pub(super) places: Arc<Places>,
    /// One for each worker.
    pub(super) posts: Box<[Post]>,
    refused: [AtomicU64; ForwardRefusal::ALL.len()],
    /// Set once: no new connections, and those that idle end.
    pub(super) draining: AtomicBool,
    /// Set once: whoever waits for a host is refused.
    pub(super) refusing: AtomicBool,
    /// Clients that wait for a host.
    pub(super) waiting: AtomicUsize,
    /// Set once: everything ends now.
    pub(super) aborting: AtomicBool,
    /// Connections that were cut at the end.
    pub(super) cut: AtomicUsize,
}

impl Hub {
    pub(super) fn new(
        options: Options,
        credentials: Option<Credentials>,
        fleet: Option<Fleet>,
        places: usize,
    ) -> Self {
        let settings = options.settings;
        let caps = settings.host_limits.iter();
        let caps = caps.map(|(host, &cap)| (host.clone(), cap));
        Self {
            slots: Mutex::new(Slots::new(settings.max_connections, caps)),
            common: fleet.map(Common::new),
            reach: Reach {
                allow: settings.allow.clone(),
                deny: settings.deny.clone(),
            },
            settings,
            allow_from: options.allow_from,
            outbound_ip: options.outbound_ip,
            header_timeout: options.header_timeout,
            client_idle_timeout: options.client_idle_timeout,
            credentials: credentials.map(RwLock::new),
            lookup: Lookup::default(),
            places: Places::new(places, None),
            posts: (0..options.workers).map(|_| Post::default()).collect(),
            refused: Default::default(),
            draining: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            aborting: AtomicBool::new(false),
            cut: AtomicUsize::new(0),
        }
    }

    /// Whether somebody who shows this `Proxy-Authorization` may use it.
    pub(super) fn lets_in(&self, authorization: Option<&[u8]>) -> bool {
        self.credentials.as_ref().is_none_or(|credentials| {
            let credentials = credentials.read().unwrap_or_else(PoisonError::into_inner);
            authorization.is_some_and(|value| credentials.accept(value))
        })
    }

    /// From now on these may use it, if not everybody may.
    pub(super) fn let_in(&self, fresh: Credentials) {
        if let Some(credentials) = &self.credentials {
            *credentials.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    pub(super) fn is_aborting(&self) -> bool {
        self.aborting.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self, reason: ForwardRefusal) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Has every worker look around.
    pub(super) fn nudge(&self) {
        self.posts.iter().for_each(Post::nudge);
    }

    pub(super) fn metrics_text(&self, out: &mut String) {
        let (hosts, others) = self.tallies();
        let named: Vec<_> = hosts
            .iter()
            .map(|(host, tally)| (host.as_str(), *tally))
            .collect();
        let forward = Forward {
            hosts: &named,
            others,
            clients: self.places.taken() as u64,
            refused: std::array::from_fn(|at| self.refused[at].load(Ordering::Relaxed)),
            fleet: self.common.as_ref().map(|common| common.fleet.counters()),
        };
        forward.encode(out);
    }
}
