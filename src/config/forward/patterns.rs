//! `FORWARD_ALLOW` and `FORWARD_DENY`: which hosts and addresses are meant.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::bounds;
use crate::config::allow::Network;
use crate::destination::{Destination, Host};

/// Hosts by name and addresses by network.
///
/// | pattern | means |
/// |---|---|
/// | `*` | every host |
/// | `example.com` | this name |
/// | `*.example.com` | every name below it, not the name itself |
/// | `example.com:443`, `*:443` | the same, on this port alone |
/// | `10.0.0.0/8`, `127.0.0.1`, `fd00::/8` | addresses, on whatever port, under whatever name |
/// | `10.0.0.0/8:80`, `127.0.0.1:80`, `[fd00::1]:80` | the same, on this port alone |
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostPatterns {
    names: Vec<NamePattern>,
    networks: Vec<NetworkPattern>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct NetworkPattern {
    network: Network,
    /// `None` for all.
    port: Option<u16>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct NamePattern {
    name: Name,
    /// `None` for all.
    port: Option<u16>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Name {
    Any,
    Exactly(Box<str>),
    /// With the dot in front.
    Below(Box<str>),
}

/// The entry that is no pattern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotAPattern(pub String);

impl fmt::Display for NotAPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is neither a host nor a network", self.0)
    }
}

impl std::error::Error for NotAPattern {}

impl HostPatterns {
    /// Whether a destination is meant by its name. `*` means addresses, too.
    pub fn names(&self, destination: &Destination) -> bool {
        self.names.iter().any(|pattern| pattern.means(destination))
    }

    /// Whether an address is meant, on this port.
    pub fn holds(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|pattern| {
            pattern.port.is_none_or(|own| own == port) && pattern.network.holds(address)
        })
    }
}

impl FromStr for HostPatterns {
    type Err = NotAPattern;

    fn from_str(list: &str) -> Result<Self, NotAPattern> {
        let mut patterns = Self::default();
        for entry in list.split(',').map(str::trim) {
            let wrong = || NotAPattern(entry.to_owned());
            let count = patterns.names.len() + patterns.networks.len();
            if count >= bounds::FORWARD_PATTERNS_MAX {
                return Err(wrong());
            }
            match NetworkPattern::parse(entry) {
                Some(network) => patterns.networks.push(network),
                None => patterns
                    .names
                    .push(NamePattern::parse(entry).ok_or_else(wrong)?),
            }
        }
        Ok(patterns)
    }
}

impl NetworkPattern {
    fn parse(entry: &str) -> Option<Self> {
        if let Some(network) = Network::parse(entry) {
            let port = None;
            return Some(Self { network, port });
        }
        let (network, port) = entry.rsplit_once(':')?;
        let network = match network.strip_prefix('[') {
            Some(inner) => Network::parse(inner.strip_suffix(']')?)?,
            // Of IPv6, the last colon may belong to the address.
            None => Network::parse(network).filter(|_| !network.contains(':'))?,
        };
        let port = Some(parse_port(port)?);
        Some(Self { network, port })
    }
}

fn parse_port(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = plain.then(|| digits.parse().ok())?;
    port.filter(|&port: &u16| port > 0)
}

impl NamePattern {
    fn parse(entry: &str) -> Option<Self> {
        let (name, port) = match entry.split_once(':') {
            None => (entry, None),
            Some((name, port)) => (name, Some(parse_port(port)?)),
        };
        let parse = |name| match Host::parse(name)? {
            Host::Name(name) => Some(name),
            Host::Ip(_) => None,
        };
        let name = match name.strip_prefix('*') {
            Some("") => Name::Any,
            Some(below) => Name::Below(format!(".{}", parse(below.strip_prefix('.')?)?).into()),
            None => Name::Exactly(parse(name)?),
        };
        Some(Self { name, port })
    }

    fn means(&self, destination: &Destination) -> bool {
        let port = self.port.is_none_or(|port| port == destination.port);
        port && match (&self.name, &destination.host) {
            (Name::Any, _) => true,
            (Name::Exactly(_) | Name::Below(_), Host::Ip(_)) => false,
            (Name::Exactly(name), Host::Name(host)) => name == host,
            (Name::Below(suffix), Host::Name(host)) => {
                host.len() > suffix.len() && host.ends_with(&**suffix)
            }
        }
    }
}
