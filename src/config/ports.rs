//! No two listeners on one port: which of them would find it in use depends on the order of the
//! start, and its message would blame a stranger.

use std::net::IpAddr;

use super::source::GivenSetting;
use super::{Config, Wrong};

/// A port that weir listens on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The setting that says which.
    pub setting: &'static str,
    /// The setting that says on which address.
    pub ip_setting: &'static str,
    /// The address.
    pub ip: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
}

impl Config {
    /// What a weir with this configuration listens on, the clients' port first.
    pub fn listeners(&self) -> impl Iterator<Item = Listener> {
        let own = |setting, port: Option<u16>| {
            port.map(|port| Listener {
                setting,
                ip_setting: "BIND_IP",
                ip: self.bind_ip,
                port,
            })
        };
        let metrics = self.enable_metrics.then_some(self.metrics_port);
        let cluster = self.is_clustered().then_some(self.cluster_port);
        let forward = self.forward.port.map(|port| Listener {
            setting: "FORWARD_PORT",
            ip_setting: "FORWARD_BIND_IP",
            ip: self.forward.bind_ip,
            port,
        });
        [
            own("PORT", Some(self.port)),
            own("METRICS_PORT", metrics),
            own("GATEWAY_QUEUE_PORT", self.gateway_queue_port),
            forward,
            own("CLUSTER_PORT", cluster),
        ]
        .into_iter()
        .flatten()
    }
}

/// Whether a socket on one address keeps another from the same port on the other.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    let covers = |wide: IpAddr, other: IpAddr| {
        // `::` takes IPv4 as well, as Linux has it by default.
        wide.is_unspecified() && (wide.is_ipv6() || other.is_ipv4())
    };
    a == b || covers(a, b) || covers(b, a)
}

/// Finds two that have one port; `place` says where a setting was set.
pub(super) fn all_differ(
    config: &Config,
    given: &[GivenSetting],
    place: impl Fn(&str) -> String,
) -> Result<(), Wrong> {
    let listeners: Vec<_> = config.listeners().collect();
    for (at, second) in listeners.iter().enumerate() {
        let mut before = listeners[..at].iter();
        let first = before.find(|first| {
            first.port == second.port && first.port != 0 && overlap(first.ip, second.ip)
        });
        if let Some(first) = first {
            return Err(Wrong::SamePort {
                place: place(set_as(second.setting, given)),
                port: second.port,
                other: set_as(first.setting, given),
            });
        }
    }
    Ok(())
}

/// The name that a port was set by: dprl's, where that is the one that holds.
fn set_as(setting: &'static str, given: &[GivenSetting]) -> &'static str {
    let is_given = |name| given.iter().any(|given| given.name == name);
    if setting == "FORWARD_PORT" && !is_given(setting) {
        "DPRL_PORT"
    } else {
        setting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_if_they_are_one_or_one_of_them_is_all() {
        for (a, b, expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0", "127.0.0.2", true),
            ("0.0.0.0", "::1", false),
            ("::", "127.0.0.1", true),
            ("::", "::1", true),
            ("::1", "127.0.0.1", false),
        ] {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(overlap(a, b), expected, "{a} {b}");
            assert_eq!(overlap(b, a), expected, "{b} {a}");
        }
    }
}
