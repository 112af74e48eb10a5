//! Names to addresses, away from the workers.
//!
//! Two threads ask the system's resolver, which blocks; workers hand them names and wait for a word.
//! Those who ask for the same name at once wait for one look-up, and an answer holds for a moment, so
//! that a fleet's rush to one host is one question.

use std::collections::VecDeque;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ahash::AHashMap;

use super::hub::Hub;
use super::post::{Address, Word};
use crate::clock::{self, Instant};
use crate::error::StartError;

/// Threads that ask: one that waits for a dead name server leaves another.
const THREADS: usize = 2;

/// Names in line for them. A look-up takes some milliseconds; who comes behind so many would wait
/// for longer than a connect takes.
const QUEUE_MAX: usize = 256;

/// Answers that are kept: as many as hosts are known at a time.
const KEPT_MAX: usize = super::hosts::slots::HOSTS_MAX;

/// How long an answer holds. The system's resolver does not tell how long it may; half a minute is
/// what most servers of changing addresses grant.
const FRESH: Duration = Duration::from_secs(30);

/// The same of none: a name that has just been made is found soon.
const FRESH_NONE: Duration = Duration::from_secs(1);

/// Addresses kept from one answer: each may be dialled.
const ADDRESSES_MAX: usize = 8;

/// Looks names up.
#[derive(Default)]
pub(super) struct Lookup {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    names: AHashMap<Box<str>, Name>,
    queue: VecDeque<Box<str>>,
    ending: bool,
}

enum Name {
    /// Asked for by these.
    Asked(Vec<Address>),
    Known {
        addresses: Arc<[IpAddr]>,
        until: Instant,
    },
}

/// What became of a question.
pub(super) enum Found {
    Now(Arc<[IpAddr]>),
    /// A [`Word::Addresses`] will come.
    Later,
    /// There are too many questions.
    Overloaded,
}

impl Lookup {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a name's addresses.
    pub(super) fn ask(&self, name: &str, asker: Address) -> Found {
        let now = clock::now();
        let mut state = self.state();
        match state.names.get_mut(name) {
            Some(Name::Known { addresses, until }) if now < *until => {
                return Found::Now(addresses.clone());
            }
            Some(Name::Asked(askers)) => {
                askers.push(asker);
                return Found::Later;
            }
            Some(Name::Known { .. }) | None => {}
        }
        if state.queue.len() >= QUEUE_MAX {
            return Found::Overloaded;
        }
        if state.names.len() >= KEPT_MAX {
            state.names.retain(|_, name| matches!(name, Name::Asked(_)));
        }
        state.names.insert(name.into(), Name::Asked(vec![asker]));
        state.queue.push_back(name.into());
        drop(state);
        self.work.notify_one();
        Found::Later
    }

    /// Ends the threads, once they are out of what they are in.
    pub(super) fn end(&self) {
        self.state().ending = true;
        self.work.notify_all();
    }

    /// Waits for a name; `None` once it is over.
    fn next(&self) -> Option<Box<str>> {
        let mut state = self.state();
        loop {
            if state.ending {
                return None;
            }
            if let Some(name) = state.queue.pop_front() {
                return Some(name);
            }
            let waited = self.work.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Keeps an answer, and returns who asked for it.
    fn answered(&self, name: Box<str>, addresses: &Arc<[IpAddr]>) -> Vec<Address> {
        let fresh = if addresses.is_empty() {
            FRESH_NONE
        } else {
            FRESH
        };
        let known = Name::Known {
            addresses: addresses.clone(),
            until: clock::now() + fresh,
        };
        match self.state().names.insert(name, known) {
            Some(Name::Asked(askers)) => askers,
            Some(Name::Known { .. }) | None => Vec::new(),
        }
    }
}

/// Starts the threads. They are not joined at the end: each may be inside a look-up that takes long,
/// and holds nothing but memory.
///
/// # Errors
/// There is no thread to be had.
pub(super) fn start(hub: &Arc<Hub>) -> Result<(), StartError> {
    for _ in 0..THREADS {
        let hub = hub.clone();
        thread::Builder::new()
            .name("weir-forward-dns".to_owned())
            .spawn(move || run(&hub))
            .map_err(StartError::Thread)?;
    }
    Ok(())
}

fn run(hub: &Hub) {
    while let Some(name) = hub.lookup.next() {
        let addresses = resolve(&name);
        for asker in hub.lookup.answered(name, &addresses) {
            if let Some(post) = hub.posts.get(asker.worker) {
                // A worker that has ended has nobody who waits.
                let _ = post.put(asker.wait, Word::Addresses(addresses.clone()));
            }
        }
    }
}

/// In the order of the system's resolver (RFC 6724), each once.
fn resolve(name: &str) -> Arc<[IpAddr]> {
    match (name, 0).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found.map(|found| found.ip()) {
                if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
                    addresses.push(address);
                }
            }
            addresses.into()
        }
        Err(error) => {
            let host = name.trim_end_matches('.').to_ascii_lowercase();
            tracing::debug!(host, %error, "no address found");
            Arc::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(wait: u32) -> Address {
        Address { worker: 0, wait }
    }

    #[test]
    fn a_name_is_looked_up_once_for_all_who_ask_and_known_for_a_while() {
        let lookup = Lookup::default();
        assert!(matches!(lookup.ask("a.example", asker(1)), Found::Later));
        assert!(matches!(lookup.ask("a.example", asker(2)), Found::Later));
        let name = lookup.next().unwrap();
        assert_eq!(&*name, "a.example");
        assert!(lookup.state().queue.is_empty(), "one question");
        let addresses: Arc<[IpAddr]> = ["192.0.2.1".parse().unwrap()].into();
        assert_eq!(lookup.answered(name, &addresses), [asker(1), asker(2)]);
        let Found::Now(known) = lookup.ask("a.example", asker(3)) else {
            panic!("it is known");
        };
        assert_eq!(known, addresses);
    }

    #[test]
    fn questions_are_bounded_and_the_end_is_heard() {
        let lookup = Lookup::default();
        for n in 0..QUEUE_MAX {
            let found = lookup.ask(&format!("h{n}.example"), asker(0));
            assert!(matches!(found, Found::Later));
        }
        assert!(matches!(
            lookup.ask("more.example", asker(0)),
            Found::Overloaded
        ));
        assert!(
            matches!(lookup.ask("h0.example", asker(1)), Found::Later),
            "it is asked for already"
        );
        lookup.end();
        assert_eq!(lookup.next(), None);
    }

    #[test]
    fn a_name_that_is_none_has_no_addresses_and_localhost_has() {
        assert!(resolve("does-not-exist.invalid").is_empty());
        assert!(resolve("localhost").iter().all(IpAddr::is_loopback));
    }
}
