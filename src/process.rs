//! What all threads of one process share: configuration, mesh, target, metrics, and whether it is
//! ending.

mod board;
pub mod overrides;
mod troubles;

pub use board::Board;
pub use overrides::Overrides;
pub use troubles::Troubles;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ahash::AHashSet;

use crate::access::Access;
use crate::clock::{self, Instant};
use crate::cluster::Members;
use crate::cluster::passes::Passes;
use crate::config::Config;
use crate::config::bounds::OVERRIDES_MAX;
use crate::egress::Limits;
use crate::identify::Queues;
use crate::io::runtime::Chosen;
use crate::io::system;
use crate::mesh::Mesh;
use crate::metrics::{self, AdminRefused};
use crate::places::Places;
use crate::route::key::Keys;
use crate::tls::{Credentials, NodeTrust};
use crate::upstream::Target;
use crate::watch::Watch;

/// Bots that are remembered as asked about; past it all are forgotten and asked about once more.
const BOTS_MAX: usize = 65_536;

/// One running weir.
pub struct Process {
    /// The validated configuration.
    pub config: Config,
    /// The limiter and the mailboxes.
    pub mesh: Arc<Mesh>,
    /// How workers speak to the kernel.
    pub driver: Chosen,
    /// When it started, Unix milliseconds.
    pub started_unix_ms: u64,
    /// How bucket keys are hashed.
    pub keys: Keys,
    /// The upstream.
    pub target: Target,
    /// What this weir is called in the `Via` of what it sends on, so that a request that comes back is known;
    /// `None` before Discord, which leads nowhere.
    pub via: Option<Box<str>>,
    /// Who serves whom, if there are several nodes.
    pub cluster: Option<Arc<Members>>,
    /// How relayed requests show where they are from.
    pub passes: Passes,
    /// What clients are shown; `None` for plain HTTP.
    pub tls: Option<Arc<Credentials>>,
    /// Whom nodes must prove to be that speak TLS; `None` outside a cluster.
    pub node_trust: Option<Arc<NodeTrust>>,
    /// Where requests are written down, if they are.
    pub access: Option<Access>,
    /// What is said now and then.
    pub troubles: Troubles,
    /// Global limits that somebody has set.
    pub overrides: Overrides,
    /// Requests to change this weir that were refused.
    pub admin_refused: AdminRefused,
    /// Has weir end as SIGTERM does.
    pub drain: Box<dyn Fn() + Send + Sync>,
    /// Writes `STATE_FILE` and says how many bytes it has; empty if there is none.
    pub write_state: OnceLock<WriteState>,
    /// Tells this process's requests from those of others, in the ids that they are given.
    pub id: u32,
    /// The caps of the forward proxy; `None` if there is none.
    pub forward: Option<Limits>,
    /// One table a worker; its owner locks it for a few nanoseconds a request, the scrape now and
    /// then.
    pub metrics: Box<[Table]>,
    /// The places of client connections, of all workers.
    pub places: Arc<Places>,
    /// Upstream connections of each worker: `UPSTREAM_MAX_CONNECTIONS`, as far as descriptors are
    /// there.
    pub upstream_connections_max: usize,
    /// Connections of each worker to each other node.
    pub node_connections_max: usize,
    /// Workers that accept connections.
    pub accepting: AtomicUsize,
    /// Bots whose global limit was asked for; see [`Process::first_sight`].
    pub bots: Mutex<AHashSet<u64>>,
    /// The identify queue's state. Worker 0 locks it for each shard that comes and goes, a scrape and the
    /// state file now and then.
    pub identify: Arc<Mutex<Queues>>,
    /// How often each worker's ticker has turned: one that is nudged and does not turn is stuck.
    pub turns: Box<[AtomicU64]>,
    /// What is noted while somebody looks.
    pub watch: Watch,
    /// When it started.
    pub started: Instant,
    /// The listeners are somebody else's too: what is queued on them is for whoever comes next.
    pub inherited: bool,
    /// Set once: no new connections, running exchanges finish.
    pub draining: AtomicBool,
    /// Set once: whoever still waits is refused.
    pub refusing: AtomicBool,
    /// Set once: end now, whatever runs.
    pub aborting: AtomicBool,
    /// Requests that the end left without Discord's answer.
    pub unserved: AtomicUsize,
}

/// Writes the state file.
pub type WriteState = Box<dyn Fn() -> io::Result<usize> + Send + Sync>;

/// There is no room for another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany;

/// What one worker has counted.
pub struct Metrics {
    /// nirn-proxy's metrics.
    pub requests: metrics::Table,
    /// weir's own.
    pub own: metrics::Counters,
}

/// A worker's metrics behind a lock, on cache lines of their own.
#[repr(align(128))]
pub struct Table(Mutex<Metrics>);

impl Table {
    /// Nothing counted yet.
    pub fn new(seeds: [u64; 4]) -> Self {
        Self(Mutex::new(Metrics {
            requests: metrics::Table::with_seeds(seeds),
            own: metrics::Counters::default(),
        }))
    }

    /// Locks the table.
    pub fn lock(&self) -> MutexGuard<'_, Metrics> {
        // Counters are sound between any two statements, so a panic under the lock spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Whether connections are being ended.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether nobody may wait any more.
    pub fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// Whether a bot's global limit is to be asked for: it was not asked for before, on whatever
    /// worker.
    pub fn first_sight(&self, identity: u64) -> bool {
        let mut bots = self.bots.lock().unwrap_or_else(PoisonError::into_inner);
        if bots.len() >= BOTS_MAX {
            bots.clear();
        }
        bots.insert(identity)
    }

    /// Sets a bot's global limit, or has it found out with `None`; says what was set before.
    ///
    /// # Errors
    /// As many bots have one as may (`OVERRIDES_MAX`); nothing was changed.
    pub fn set_override(&self, bot: u64, limit: Option<u32>) -> Result<Option<u32>, TooMany> {
        let mut was = Ok(None);
        self.overrides.change(|limits| {
            let known = limits.get(&bot).copied();
            if known.is_none() && limit.is_some() && limits.len() >= OVERRIDES_MAX {
                was = Err(TooMany);
                return false;
            }
            was = Ok(known);
            match limit {
                Some(limit) => limits.insert(bot, limit),
                None => limits.remove(&bot),
            };
            // Within, so that the limiter is told in the same order.
            self.mesh.set_override(clock::now(), bot, limit);
            known != limit
        });
        was
    }

    /// All workers' metrics in one, as Prometheus' text.
    pub fn metrics_text(&self) -> String {
        let mut text = String::new();
        let Some((first, rest)) = self.metrics.split_first() else {
            return text;
        };
        let (mut requests, mut own) = {
            let first = first.lock();
            (first.requests.clone(), first.own.clone())
        };
        for table in rest {
            let table = table.lock();
            requests.merge(&table.requests);
            own.merge(&table.own);
        }
        text.reserve(requests.text_bytes());
        requests.encode(&mut text);
        own.encode(&mut text);
        self.admin_refused.encode(&mut text);
        let (written, dropped) = self.access.as_ref().map_or((0, 0), Access::counts);
        metrics::encode_access(written, dropped, &mut text);
        metrics::encode_guards(&self.mesh.limiter().guarded(clock::now()), &mut text);
        self.system(requests.under_way()).encode(&mut text);
        if let Some(members) = &self.cluster {
            members.counts().encode(&mut text);
        }
        if self.config.gateway_queue_port.is_some() {
            let queues = self.identify.lock();
            let census = queues.unwrap_or_else(PoisonError::into_inner).census();
            metrics::encode_starts(&census, &mut text);
        }
        if let Some(forward) = &self.forward {
            forward.metrics_text(&mut text);
        }
        text
    }

    /// What the process uses, beside so many `requests_under_way`. Wakes each worker, so that by the next
    /// time it will have turned, unless it is stuck.
    fn system(&self, requests_under_way: u64) -> metrics::System {
        let mut system = metrics::System {
            driver: match self.driver {
                Chosen::IoUring => "io_uring",
                Chosen::Epoll => "epoll",
            },
            started_unix_ms: self.started_unix_ms,
            handed: self.mesh.counts(),
            requests_under_way,
            clients_max: self.places.most() as u64,
            ..system::used(self.turns.len())
        };
        for (at, (worker, turns)) in system.workers.iter_mut().zip(&self.turns).enumerate() {
            worker.turns = turns.load(Ordering::Relaxed);
            self.mesh.nudge(at);
        }
        system
    }
}
