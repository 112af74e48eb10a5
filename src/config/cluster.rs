//! `CLUSTER_MEMBERS`, `CLUSTER_DNS`, `CLUSTER_PORT` and `CLUSTER_SECRET`: whom to form a cluster with;
//! `CLUSTER_CA_FILE` and `CLUSTER_TLS_NAME`: whom to believe that it is one of them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::{Config, bounds};

/// Where another node may be: a host, and its cluster port if that is not `CLUSTER_PORT`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Peer {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its cluster port.
    pub port: Option<u16>,
}

/// A text that is no peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAPeer;

impl fmt::Display for NotAPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a host with or without a port")
    }
}

impl std::error::Error for NotAPeer {}

impl FromStr for Peer {
    type Err = NotAPeer;

    fn from_str(text: &str) -> Result<Self, NotAPeer> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or(NotAPeer)?;
            let _: Ipv6Addr = host.parse().map_err(|_| NotAPeer)?;
            match rest {
                "" => (host, None),
                rest => (host, Some(rest.strip_prefix(':').ok_or(NotAPeer)?)),
            }
        } else if text.parse::<IpAddr>().is_ok() {
            (text, None)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let is_address = host.parse::<IpAddr>().is_ok();
        if !is_address && !super::upstream::is_host_name(host) {
            return Err(NotAPeer);
        }
        let port = port.map(|port| match port.parse::<u16>() {
            Ok(number) if number != 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
            _ => Err(NotAPeer),
        });
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port: port.transpose()?,
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v6 = self.host.contains(':');
        match (v6, self.port) {
            (_, None) => f.write_str(&self.host),
            (true, Some(port)) => write!(f, "[{}]:{port}", self.host),
            (false, Some(port)) => write!(f, "{}:{port}", self.host),
        }
    }
}

/// What the nodes of a cluster share and nobody else knows. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret(String);

impl ClusterSecret {
    /// A secret of [`bounds::CLUSTER_SECRET_BYTES_MIN`] to [`bounds::CLUSTER_SECRET_BYTES_MAX`] bytes.
    pub fn new(text: &str) -> Option<Self> {
        let bytes = bounds::CLUSTER_SECRET_BYTES_MIN..=bounds::CLUSTER_SECRET_BYTES_MAX;
        bytes.contains(&text.len()).then(|| Self(text.to_owned()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(…)")
    }
}

impl Config {
    /// Whether this weir is to look for others.
    pub fn is_clustered(&self) -> bool {
        !self.cluster_members.is_empty() || self.cluster_dns.is_some()
    }
}

/// `host,host:port,…`; one that is wrong is named. Blanks around them and an empty last one are
/// forgiven, since nirn-proxy forgives them.
pub(super) fn members(value: &str) -> Result<Vec<Peer>, String> {
    let mut peers = Vec::new();
    for text in value
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        let peer: Peer = text.parse().map_err(|NotAPeer| text.to_owned())?;
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    if peers.len() > bounds::CLUSTER_MEMBERS_MAX {
        return Err(format!("{} members", peers.len()));
    }
    Ok(peers)
}

/// The secret; of a wrong one only the length is told.
pub(super) fn secret(value: &str) -> Result<ClusterSecret, String> {
    ClusterSecret::new(value).ok_or_else(|| format!("a text of {} bytes", value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_host_with_or_without_a_port() {
        for (text, host, port) in [
            ("10.0.0.2", "10.0.0.2", None),
            ("10.0.0.2:7000", "10.0.0.2", Some(7000)),
            ("Node-1.example", "node-1.example", None),
            ("node_1:7654", "node_1", Some(7654)),
            ("fd00::1", "fd00::1", None),
            ("[fd00::1]", "fd00::1", None),
            ("[fd00::1]:1", "fd00::1", Some(1)),
        ] {
            let peer: Peer = text.parse().unwrap();
            assert_eq!((peer.host.as_str(), peer.port), (host, port), "{text}");
            assert_eq!(peer.to_string().parse(), Ok(peer), "{text}");
        }
        for text in [
            "",
            ":1",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a b",
            "http://a",
            "a:1:2",
            "[a]:1",
            "[::1",
            "[::1]1",
            "[10.0.0.1]",
            "a..b",
            "a/b",
        ] {
            assert_eq!(text.parse::<Peer>(), Err(NotAPeer), "{text}");
        }
    }

    #[test]
    fn a_secret_does_not_show() {
        let secret = ClusterSecret::new("0123456789abcdef").unwrap();
        assert_eq!(format!("{secret:?}"), "ClusterSecret(…)");
        assert_eq!(super::secret("short"), Err("a text of 5 bytes".to_owned()));
    }
}
