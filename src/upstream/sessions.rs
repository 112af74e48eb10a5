//! TLS sessions to resume. rustls' own store keeps eight tickets a server: enough for a browser, but a
//! pool that loses its connections at once, as it does when Discord's edge restarts, would open all
//! but eight of them with full handshakes.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;

/// Tickets kept, for all workers: half of `UPSTREAM_MAX_CONNECTIONS`' default for one. Each is used once
/// (RFC 8446 C.4); every connection brings new ones. About 4 KiB each, most of it the server's chain.
const TICKETS_MAX: usize = 256;

/// The sessions with one upstream, whatever name it is asked for by: weir has one.
#[derive(Debug)]
pub(super) struct Sessions {
    /// TLS 1.3; the newest last, and taken first.
    tickets: Mutex<VecDeque<Tls13ClientSessionValue>>,
    /// TLS 1.2, whose sessions may be used again, and what key exchange the server chose.
    others: ClientSessionMemoryCache,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self {
            tickets: Mutex::new(VecDeque::new()),
            others: ClientSessionMemoryCache::new(1),
        }
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.others.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.others.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.others.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.others.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.others.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() >= TICKETS_MAX {
            tickets.pop_front();
        }
        tickets.push_back(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.pop_back()
    }
}
