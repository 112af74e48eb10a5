//! Connections lent to exchanges, one worker's: taken from the pool or opened, and taken back.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::connection::Connection;
use super::dial;
use super::pool::Pool;
use super::resolve::Resolver;
use super::slots::{Slot, Slots};
use super::tls::Session;
use crate::clock::{self, Instant};
use crate::error::Error;
use crate::io::Deadlines;
use crate::io::socket::Half;

/// The name that a certificate must carry, and how it is checked.
pub type Trust = (ServerName<'static>, Arc<ClientConfig>);

/// Where the upstream is and how to speak to it.
#[derive(Clone)]
pub struct Target {
    /// The name to put into `Host`, with the port unless it is the scheme's own.
    pub authority: Arc<str>,
    /// The name the certificate must carry, and the trust in it; `None` for plain HTTP.
    pub tls: Option<Trust>,
    /// Its addresses.
    pub resolver: Arc<Resolver>,
    /// The local address to connect from.
    pub outbound: Option<IpAddr>,
}

/// Bounds of one worker's connections.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Exchanges under way, and so connections.
    pub connections_max: usize,
    /// How long a connection idles before it is closed.
    pub idle_timeout: Duration,
    /// How long a connect may take, and a handshake after it.
    pub connect_timeout: Duration,
}

/// Counts of what happened to connections, for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Connections opened.
    pub opened: u64,
    /// Of those, TLS sessions that were resumed.
    pub resumed: u64,
    /// Exchanges on a connection that had carried one before.
    pub reused: u64,
    /// Connections found dead when they were to be used again.
    pub stale: u64,
    /// Attempts to connect that failed.
    pub failed: u64,
    /// Connections closed, by either side.
    pub closed: u64,
}

/// The upstream, as one worker sees it.
pub struct Upstream {
    target: Target,
    bounds: Bounds,
    pool: RefCell<Pool<Connection>>,
    slots: Slots,
    deadlines: Deadlines,
    counts: Cell<Counts>,
    /// Counted by each connection as it is dropped.
    closed: Rc<Cell<u64>>,
}

/// A connection lent to one exchange.
pub struct Lease {
    /// The connection.
    pub connection: Connection,
    /// Whether it carried an exchange before, so that the other side may have closed it meanwhile.
    pub reused: bool,
    slot: Slot,
}

impl Upstream {
    /// No connections yet.
    pub fn new(target: Target, bounds: Bounds, deadlines: Deadlines) -> Rc<Self> {
        Rc::new(Self {
            target,
            bounds,
            pool: RefCell::new(Pool::new(bounds.connections_max, bounds.idle_timeout)),
            slots: Slots::new(bounds.connections_max),
            deadlines,
            counts: Cell::default(),
            closed: Rc::default(),
        })
    }

    /// The bytes of the `Host` header.
    pub fn authority(&self) -> &[u8] {
        self.target.authority.as_bytes()
    }

    /// A connection for one exchange. `fresh` asks for a new one, after a pooled one failed.
    ///
    /// # Errors
    /// No connection could be opened; nothing was sent.
    pub async fn lease(&self, fresh: bool) -> Result<Lease, Error> {
        let slot = self.slots.acquire().await;
        loop {
            let pooled = if fresh {
                None
            } else {
                self.pool.borrow_mut().take(clock::now())
            };
            let Some(mut connection) = pooled else { break };
            if connection.is_alive().await {
                self.count(|counts| counts.reused += 1);
                return Ok(Lease {
                    connection,
                    reused: true,
                    slot,
                });
            }
            self.count(|counts| counts.stale += 1);
        }
        // Boxed: opening is rare, and its state would be part of every connection's task.
        let connection = Box::pin(self.open()).await.inspect_err(|error| {
            self.count(|counts| counts.failed += 1);
            tracing::warn!(upstream = &*self.target.authority, %error, "cannot connect");
        })?;
        Ok(Lease {
            connection,
            reused: false,
            slot,
        })
    }

    async fn open(&self) -> Result<Connection, Error> {
        let addresses = self.target.resolver.addresses();
        let timeout = self.bounds.connect_timeout;
        let stream = dial::dial(&addresses, self.target.outbound, timeout, &self.deadlines).await?;
        let session = match &self.target.tls {
            Some((name, config)) => Some(Session::new(config.clone(), name.clone())?),
            None => None,
        };
        let mut connection = Connection::new(stream, session, self.closed.clone());
        let deadline = self.deadlines.arm_after(&connection, Half::Both, timeout);
        let resumed = connection.handshake().await?;
        drop(deadline);
        self.count(|counts| {
            counts.opened += 1;
            counts.resumed += u64::from(resumed);
        });
        Ok(connection)
    }

    /// Takes a connection back after an exchange that ended cleanly and left it open.
    pub fn give_back(&self, lease: Lease) {
        let Lease {
            mut connection,
            slot,
            ..
        } = lease;
        if connection.rest() {
            let evicted = self.pool.borrow_mut().put(clock::now(), connection);
            drop(evicted);
        }
        // The place goes on last, so that who gets it finds the connection.
        drop(slot);
    }

    /// Closes connections that have idled too long, and returns when to look again.
    pub fn expire(&self, now: Instant) -> Option<Instant> {
        loop {
            let expired = self.pool.borrow_mut().expire(now);
            if expired.is_none() {
                return self.pool.borrow().next_deadline();
            }
        }
    }

    /// Closes all idle connections.
    pub fn close_idle(&self) {
        self.pool.borrow_mut().clear();
    }

    /// How many connections idle.
    pub fn idle(&self) -> usize {
        self.pool.borrow().len()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        Counts {
            closed: self.closed.get(),
            ..self.counts.get()
        }
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }
}
