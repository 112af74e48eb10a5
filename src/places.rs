//! The places that connections take: so many in all, so many of one client.
//!
//! A place costs two atomic operations a connection, and with `MAX_CONNECTIONS_PER_CLIENT` a lock as
//! the connection begins and one as it ends; nothing a request. The table of clients holds only
//! those that are connected, so it is bounded by the places.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ahash::AHashMap;

/// The places of one process.
pub struct Places {
    taken: AtomicUsize,
    most: usize,
    per_client: Option<PerClient>,
}

struct PerClient {
    most: usize,
    /// Invariant: no count is zero.
    counts: Mutex<AHashMap<Network, usize>>,
}

/// Whom connections are counted for: an IPv4 address, or an IPv6 /64, which is what one host is given
/// (RFC 6177).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Network(u64);

impl Network {
    fn of(client: IpAddr) -> Self {
        /// In front of an IPv4 address: as the first half of an IPv6 address, none that is routed.
        const IPV4: u64 = 0xffff << 32;
        Self(match client.to_canonical() {
            IpAddr::V4(address) => IPV4 | u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        })
    }
}

/// Why there is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// All are taken.
    All,
    /// This client has as many as one may have.
    Client,
}

impl Places {
    /// `most` places, of which one client may take `per_client`.
    pub fn new(most: usize, per_client: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            most,
            per_client: per_client.map(|most| PerClient {
                most,
                counts: Mutex::default(),
            }),
        })
    }

    /// Takes a place for a connection of `client`.
    ///
    /// # Errors
    /// There is none.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Result<Place, Full> {
        self.take_for(Some(client))
    }

    /// Takes a place for a connection that is nobody's in particular: another node's, behind which are
    /// many clients.
    ///
    /// # Errors
    /// There is none.
    pub fn take_shared(self: &Arc<Self>) -> Result<Place, Full> {
        self.take_for(None)
    }

    fn take_for(self: &Arc<Self>, client: Option<IpAddr>) -> Result<Place, Full> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        // Gives back what was taken, whatever comes now.
        let mut place = Place {
            places: self.clone(),
            network: None,
        };
        if before >= self.most {
            return Err(Full::All);
        }
        if let (Some(bound), Some(client)) = (&self.per_client, client) {
            let network = Network::of(client);
            let mut counts = bound.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(network).or_default();
            if *count >= bound.most {
                return Err(Full::Client);
            }
            *count += 1;
            place.network = Some(network);
        }
        Ok(place)
    }

    /// How many there are.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

/// A place, given back when dropped.
#[must_use]
pub struct Place {
    places: Arc<Places>,
    /// Whom it is counted for.
    network: Option<Network>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let (Some(bound), Some(network)) = (&self.places.per_client, self.network) {
            let mut counts = bound.counts.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = counts.get_mut(&network) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&network);
                }
            }
        }
        self.places.taken.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_place_comes_back_when_it_is_dropped_and_a_refusal_takes_none() {
        let places = Places::new(2, None);
        let client = ip("192.0.2.1");
        let first = places.take(client).ok().unwrap();
        let second = places.take(client).ok().unwrap();
        assert_eq!(places.take(client).err(), Some(Full::All));
        assert_eq!(places.taken(), 2);
        drop(first);
        let third = places.take(client).ok().unwrap();
        drop((second, third));
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn one_client_has_its_part_and_leaves_the_rest_to_others() {
        let places = Places::new(4, Some(2));
        let (one, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let held = [places.take(one), places.take(one)].map(|place| place.ok().unwrap());
        assert_eq!(places.take(one).err(), Some(Full::Client));
        assert_eq!(places.taken(), 2, "a refusal takes none");
        let others = places.take(other).ok().unwrap();
        drop(held);
        drop(places.take(one).ok().unwrap());
        drop(others);
        let bound = places.per_client.as_ref().unwrap();
        assert_eq!(
            bound.counts.lock().unwrap().len(),
            0,
            "nobody is remembered"
        );
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn an_ipv6_client_is_its_64_and_a_mapped_address_is_ipv4() {
        let same = |a, b| Network::of(ip(a)) == Network::of(ip(b));
        assert!(same("2001:db8::1", "2001:db8::ffff:0:0:2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(!same("::1", "0.0.0.1"));
    }
}
