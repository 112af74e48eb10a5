//! At which address the others see this node, where `BIND_IP` does not say: the one that datagrams to
//! them leave from.
//!
//! Others only: a node's list may name itself, and Debian's `/etc/hosts` gives its own name 127.0.1.1. So
//! loopback is for clusters that are on one host, and that is known when all names have resolved. Until
//! there is a way to somebody it is looked again: a node may start before its network.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::finder::Found;
use crate::clock::Instant;

/// Between two looks while there is no way.
const AGAIN: Duration = Duration::from_secs(1);

/// What is known until the address is.
#[derive(Default)]
pub(super) struct Address {
    found: Found,
    look_at: Instant,
    is_told: bool,
}

impl Address {
    /// Others may be here now.
    pub(super) fn found(&mut self, found: Found) {
        self.found = found;
        self.look_at = Instant::default();
    }

    /// Takes those that were found last.
    pub(super) fn take(&mut self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.found.seeds)
    }

    /// This node's address, once it can be told; `way` says from where one reaches an address, if it can
    /// be reached.
    pub(super) fn look(
        &mut self,
        now: Instant,
        way: impl Fn(SocketAddr) -> Option<IpAddr>,
    ) -> Option<IpAddr> {
        if self.found.seeds.is_empty() || now < self.look_at {
            return None;
        }
        let ip = seen_at(&self.found, way);
        if ip.is_none() {
            self.look_at = now + AGAIN;
            if !self.is_told {
                self.is_told = true;
                tracing::warn!(
                    seeds = ?self.found.seeds,
                    all_names_resolve = self.found.is_all,
                    "no network leads to another node of the cluster yet: until one does, this node looks each \
                     second and serves everybody"
                );
            }
        }
        ip
    }
}

fn seen_at(found: &Found, way: impl Fn(SocketAddr) -> Option<IpAddr>) -> Option<IpAddr> {
    let is_loopback = |seed: &SocketAddr| seed.ip().to_canonical().is_loopback();
    let on_this_host = found.seeds.iter().all(is_loopback);
    if on_this_host && !found.is_all {
        return None;
    }
    let mut others = found.seeds.iter();
    others.find_map(|seed| way(*seed).filter(|_| on_this_host || !is_loopback(seed)))
}

/// The address that datagrams to `seed` leave from.
pub(super) fn way_to(seed: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = match seed {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(seed).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(seeds: &[&str], is_all: bool) -> Found {
        let mut seeds: Vec<SocketAddr> = seeds.iter().map(|s| s.parse().unwrap()).collect();
        seeds.sort_unstable();
        Found { seeds, is_all }
    }

    /// As on a host at 192.168.77.3 and 10.0.0.3, and nowhere else.
    fn way(seed: SocketAddr) -> Option<IpAddr> {
        let from = match seed.ip().to_string() {
            ip if ip.starts_with("192.168.77.") => "192.168.77.3",
            ip if ip.starts_with("10.0.0.") => "10.0.0.3",
            ip if ip.starts_with("127.") => "127.0.0.1",
            _ => return None,
        };
        Some(from.parse().unwrap())
    }

    fn seen(seeds: &[&str], is_all: bool) -> Option<String> {
        seen_at(&found(seeds, is_all), way).map(|ip| ip.to_string())
    }

    #[test]
    fn a_node_whose_own_name_is_in_hosts_is_where_the_others_see_it() {
        let hosts = "127.0.1.1:7654";
        let own = seen(&[hosts, "192.168.77.7:7654"], true);
        assert_eq!(own.as_deref(), Some("192.168.77.3"));
        assert_eq!(seen(&[hosts, "172.16.0.1:7654"], true), None);
        // The others' names may resolve later.
        assert_eq!(seen(&[hosts], false), None);
    }

    #[test]
    fn a_cluster_on_one_host_is_at_loopback() {
        let own = seen(&["127.0.0.1:7654", "127.0.0.2:7654"], true);
        assert_eq!(own.as_deref(), Some("127.0.0.1"));
    }

    #[test]
    fn the_first_way_there_is_decides() {
        let own = seen(&["1.2.3.4:1", "10.0.0.7:1", "192.168.77.7:1"], false);
        assert_eq!(own.as_deref(), Some("10.0.0.3"));
    }

    #[test]
    fn a_node_that_started_before_its_network_looks_again_each_second() {
        let (mut address, t0) = (Address::default(), Instant::default() + AGAIN);
        let nowhere = |_| panic!("nothing was found");
        assert_eq!(address.look(t0, nowhere), None);
        address.found(found(&["10.0.0.7:1"], true));
        assert_eq!(address.look(t0, |_| None), None);
        assert_eq!(address.look(t0 + AGAIN / 2, way), None);
        let own = address.look(t0 + AGAIN, way).expect("there is a way now");
        assert_eq!(own.to_string(), "10.0.0.3");
        assert_eq!(address.take(), found(&["10.0.0.7:1"], true).seeds);
    }
}
