//! From a destination to a connection: look it up, judge the addresses, take a slot, dial.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::dial::{dial, in_turns};
use super::hosts::{Destination, Host};
use super::limits::{self, NoSlot};
use super::lookup::Found;
use super::post::{Address, Word};
use super::registry::Entry;
use super::upstream::Up;
use super::worker::Worker;
use crate::clock;
use crate::error::Kind;
use crate::io::first::{First, first};
use crate::metrics::ForwardRefusal;

/// Connects to `destination` for the client of `entry`. May be dropped at any time: what was taken is
/// given back.
pub(super) async fn connect(
    worker: &Rc<Worker>,
    entry: &Rc<Entry>,
    from: SocketAddr,
    destination: Destination,
) -> Result<Up, ForwardRefusal> {
    let hub = &worker.hub;
    if !hub.reach.allows_name(&destination) {
        return Err(ForwardRefusal::Forbidden);
    }
    let begun = clock::now();
    let timeout = hub.settings.connect_timeout;
    let found = addresses(worker, &destination.host, timeout).await?;
    if found.is_empty() {
        return Err(ForwardRefusal::Dns);
    }
    let allowed: Vec<IpAddr> = found
        .iter()
        .copied()
        .filter(|&address| hub.reach.allows(&destination, address))
        .collect();
    if allowed.is_empty() {
        return Err(ForwardRefusal::Forbidden);
    }
    let looked_up = clock::now().saturating_duration_since(begun);
    let slot = limits::take(worker, &destination.key()).await;
    let slot = slot.map_err(|no| match no {
        NoSlot::Full => ForwardRefusal::Full,
        NoSlot::WaitedTooLong => ForwardRefusal::WaitedTooLong,
        NoSlot::Bound => ForwardRefusal::Bound,
        NoSlot::Shared => ForwardRefusal::Shared,
    })?;
    entry.touch(clock::now());
    let until = clock::now() + timeout.saturating_sub(looked_up);
    let addresses: Vec<SocketAddr> = in_turns(&allowed)
        .into_iter()
        .map(|address| SocketAddr::new(address, destination.port))
        .collect();
    match dial(&addresses, hub.outbound_ip, until, &worker.deadlines).await {
        Ok(stream) => Ok(Up::new(entry, from, stream, slot, destination)),
        Err(error) => {
            tracing::debug!(host = %destination.key(), %from, %error, "no connection");
            Err(match error.kind {
                Kind::ConnectTimeout => ForwardRefusal::ConnectTimeout,
                _ => ForwardRefusal::Unreachable,
            })
        }
    }
}

async fn addresses(
    worker: &Rc<Worker>,
    host: &Host,
    timeout: Duration,
) -> Result<Arc<[IpAddr]>, ForwardRefusal> {
    let name = match host {
        Host::Ip(address) => return Ok([*address].into()),
        Host::Name(name) => name,
    };
    let mut wait = worker.waits.begin(drop);
    let asker = Address {
        worker: worker.index,
        wait: wait.key(),
    };
    match worker.hub.lookup.ask(name, asker) {
        Found::Now(addresses) => {
            wait.forget();
            Ok(addresses)
        }
        Found::Overloaded => {
            wait.forget();
            Err(ForwardRefusal::Dns)
        }
        Found::Later => {
            let late = Box::pin(monoio::time::sleep(timeout));
            match first(wait.word(), late).await {
                First::Left(Word::Addresses(addresses)) => Ok(addresses),
                First::Left(Word::Slot(_) | Word::Place(_)) | First::Right(()) => {
                    Err(ForwardRefusal::Dns)
                }
            }
        }
    }
}
