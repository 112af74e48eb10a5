//! Looks up where other nodes may be, on a thread of its own: DNS takes its time.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::members::Members;
use crate::config::{Config, Peer};

/// Between two look-ups while this node is alone: whoever starts together with it is found this late.
const ALONE: Duration = Duration::from_secs(2);
/// Between two look-ups otherwise: an orchestrator's answers live so long.
const TOGETHER: Duration = Duration::from_secs(30);

/// Where other nodes may be.
#[derive(Default, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) seeds: Vec<SocketAddr>,
    /// Whether all names have resolved.
    pub(super) is_all: bool,
}

/// Names, and what they resolved to.
pub(super) struct Finder {
    names: Vec<Peer>,
    /// So many of them are of `CLUSTER_MEMBERS`.
    members: usize,
    port: u16,
    found: Mutex<Option<Found>>,
    stopping: AtomicBool,
}

impl Finder {
    /// Starts looking; the control thread is woken when something was found.
    pub(super) fn start(
        config: &Config,
        port: u16,
        members: &Arc<Members>,
    ) -> std::io::Result<Arc<Self>> {
        let names = config.cluster_members.iter().chain(&config.cluster_dns);
        let finder = Arc::new(Self {
            names: names.cloned().collect(),
            members: config.cluster_members.len(),
            port,
            found: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        thread::Builder::new()
            .name("weir-cluster-dns".to_owned())
            .spawn({
                let (finder, members) = (finder.clone(), members.clone());
                // Not joined: it may be inside a look-up that takes long, and it holds nothing.
                move || finder.run(&members)
            })?;
        Ok(finder)
    }

    /// Says what an entry of `CLUSTER_MEMBERS` resolved to; who is behind `CLUSTER_DNS` may change.
    fn tell(&self, members: &Members, place: usize, addrs: Option<&[SocketAddr]>) {
        let Some(name) = self.names.get(place).filter(|_| place < self.members) else {
            return;
        };
        let shown = match name.port {
            Some(port) => format!("{}:{port}", name.host),
            None => name.host.clone(),
        };
        members.sight().resolved(&shown, addrs);
    }

    /// What was found since the last call.
    pub(super) fn take(&self) -> Option<Found> {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn run(&self, members: &Members) {
        let mut known = Found::default();
        let mut unresolved = Vec::new();
        while !self.stopping.load(Ordering::Relaxed) {
            let found = self.look_up(members, &mut unresolved);
            // The last good answer goes on.
            if !found.seeds.is_empty() && found != known {
                known.clone_from(&found);
                *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
                members.wake();
            }
            let alone = members.ownership().is_alone();
            let pause = if alone { ALONE } else { TOGETHER };
            // In short steps: somebody who is alone again looks again soon, and an end is seen.
            let steps = pause.as_millis() / ALONE.as_millis();
            for _ in 0..steps {
                thread::park_timeout(ALONE);
                let left_alone = !alone && members.ownership().is_alone();
                if left_alone || self.stopping.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
    }

    /// `unresolved`: names that did not resolve, which have been told of.
    fn look_up<'a>(&'a self, members: &Members, unresolved: &mut Vec<&'a Peer>) -> Found {
        let (mut seeds, mut is_all) = (Vec::new(), true);
        for (place, name) in self.names.iter().enumerate() {
            let port = name.port.unwrap_or(self.port);
            match (name.host.as_str(), port).to_socket_addrs() {
                Ok(addrs) => {
                    let addrs: Vec<SocketAddr> = addrs.collect();
                    if unresolved.contains(&name) {
                        unresolved.retain(|other| *other != name);
                        tracing::info!(host = name.host, "a node's name resolves now");
                    }
                    self.tell(members, place, Some(&addrs));
                    seeds.extend(addrs);
                }
                Err(error) => {
                    is_all = false;
                    self.tell(members, place, None);
                    // Once, until it changes: it is looked up again and again.
                    if !unresolved.contains(&name) {
                        unresolved.push(name);
                        tracing::warn!(
                            host = name.host,
                            %error,
                            "a name of CLUSTER_MEMBERS or CLUSTER_DNS does not resolve: nobody is looked \
                             for there until it does"
                        );
                    }
                }
            }
        }
        seeds.sort_unstable();
        seeds.dedup();
        seeds.truncate(super::member::SEEDS_MAX);
        Found { seeds, is_all }
    }
}
