//! The upstream's addresses, looked up away from the workers.
//!
//! A thread of its own asks the system's resolver every `REFRESH` and publishes what it says;
//! workers read the published list and never wait for DNS. When the resolver fails, the last good
//! answer goes on.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Time between two look-ups: Cloudflare's answers for discord.com live 300 s; half a minute
/// notices a change early and is no load on a resolver.
const REFRESH: Duration = Duration::from_secs(30);

/// Time between look-ups while none has succeeded yet.
const RETRY: Duration = Duration::from_secs(1);

/// How long a start waits for the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// Addresses kept from one answer: each is tried at a dial, so more would only lengthen an outage.
const ADDRESSES_MAX: usize = 8;

/// The addresses of one upstream, refreshed in the background.
pub struct Resolver {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    host: String,
    port: u16,
    addresses: Mutex<Arc<[SocketAddr]>>,
    /// The last look-up failed, and that was told.
    failing: AtomicBool,
    stopping: AtomicBool,
}

impl Resolver {
    /// Looks `host` up and keeps refreshing, on a thread of its own; a literal address needs
    /// neither. Waits a moment for the first answer. If there is none weir starts all the same:
    /// requests get 502 until a look-up succeeds.
    pub fn start(host: &str, port: u16) -> Self {
        let literal: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let addresses = literal.map(|ip| SocketAddr::new(ip, port));
        let shared = Arc::new(Shared {
            host: host.to_owned(),
            port,
            addresses: Mutex::new(addresses.into_iter().collect()),
            failing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        });
        let thread = literal.is_none().then(|| {
            let (first, answered) = mpsc::channel();
            let thread = thread::Builder::new().name("weir-dns".to_owned()).spawn({
                let shared = shared.clone();
                move || shared.run(&first)
            });
            if thread.is_ok() {
                // No answer in time is no error: the thread goes on asking.
                let _ = answered.recv_timeout(FIRST_ANSWER);
            }
            thread
        });
        let thread = thread.and_then(|spawned| {
            spawned
                .inspect_err(|error| tracing::error!(%error, "no thread to look up DNS with"))
                .ok()
        });
        Self {
            shared,
            thread: Mutex::new(thread),
        }
    }

    /// One address, known.
    pub fn fixed(address: SocketAddr) -> Self {
        Self {
            shared: Arc::new(Shared {
                host: address.ip().to_string(),
                port: address.port(),
                addresses: Mutex::new([address].into_iter().collect()),
                failing: AtomicBool::new(false),
                stopping: AtomicBool::new(false),
            }),
            thread: Mutex::new(None),
        }
    }

    /// The last good answer; empty if there never was one.
    pub fn addresses(&self) -> Arc<[SocketAddr]> {
        self.shared
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Asks the system's resolver, which takes its time: at most so many addresses as are ever tried.
///
/// # Errors
/// Whatever it says.
pub(crate) fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = (host, port).to_socket_addrs()?;
    Ok(found.take(ADDRESSES_MAX).collect())
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // Not joined: it may be inside a look-up that takes long, and it holds nothing.
            thread.thread().unpark();
        }
    }
}

impl Shared {
    fn run(&self, first: &mpsc::Sender<()>) {
        let mut known = self.refresh();
        // Nobody waits for it any more if it took long.
        let _ = first.send(());
        while !self.stopping.load(Ordering::Relaxed) {
            thread::park_timeout(if known { REFRESH } else { RETRY });
            if !self.stopping.load(Ordering::Relaxed) {
                known |= self.refresh();
            }
        }
    }

    /// Says so once, until one succeeds.
    fn failed(&self, error: &io::Error) {
        if self.failing.swap(true, Ordering::Relaxed) {
            return;
        }
        let host = self.host.as_str();
        let addresses = self.addresses.lock();
        if addresses.unwrap_or_else(PoisonError::into_inner).is_empty() {
            tracing::warn!(
                host,
                %error,
                "DNS look-up failed, and no address is known: requests get 502 until one succeeds; look \
                 at UPSTREAM_URL and this host's resolver"
            );
        } else {
            tracing::warn!(
                host,
                %error,
                "DNS look-ups fail; the last good addresses go on; look at this host's resolver"
            );
        }
    }

    fn refresh(&self) -> bool {
        match look_up(&self.host, self.port) {
            Ok(found) => {
                let found: Arc<[SocketAddr]> = found.into();
                if found.is_empty() {
                    self.failed(&io::ErrorKind::NotFound.into());
                    return false;
                }
                *self
                    .addresses
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = found;
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(host = self.host, "DNS look-ups succeed again");
                }
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_address_needs_no_resolver() {
        let v4 = Resolver::start("127.0.0.1", 443);
        assert_eq!(*v4.addresses(), ["127.0.0.1:443".parse().unwrap()]);
        let v6 = Resolver::start("[::1]", 1);
        assert_eq!(*v6.addresses(), ["[::1]:1".parse().unwrap()]);
    }

    #[test]
    fn a_failed_look_up_keeps_the_last_good_addresses() {
        let shared = Shared {
            host: "does-not-exist.invalid".to_owned(),
            port: 1,
            addresses: Mutex::new(["127.0.0.1:1".parse().unwrap()].into()),
            failing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        };
        assert!(!shared.refresh());
        assert_eq!(shared.addresses.lock().unwrap().len(), 1);
    }
}
