//! Where a forward proxy is asked to connect to, and the name that its connections are counted
//! under.
//!
//! An authority (`host:port`, RFC 9110 7.2) is read once into a [`Destination`]; two spellings of
//! one host become the same value, because a cap that `EXAMPLE.com.` gets around is none.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Longest name of a host (RFC 1035 2.3.4, in text).
pub const NAME_BYTES_MAX: usize = 253;

/// Longest part of a name between two dots (RFC 1035 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// A host: a name in small letters without the dot at its end, or an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Host {
    /// To be looked up.
    Name(Box<str>),
    /// To be connected to as it is. Never an IPv4 address in IPv6 form (RFC 4291 2.5.5.2).
    Ip(IpAddr),
}

/// A host and a port.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Destination {
    /// The host.
    pub host: Host,
    /// The port, from 1.
    pub port: u16,
}

/// What connections are counted under: a host with its port, which is left away where it is 80 or
/// 443, as dprl has it: `api.example.com`, `api.example.com:8443`, `2001:db8::1`,
/// `[2001:db8::1]:8443`. A copy costs one atomic operation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostKey(Arc<str>);

impl Host {
    /// Reads a name, an IPv4 address, or an IPv6 address with or without its brackets. `None` for
    /// anything else, and for what looks like an address but is none: the resolver might take
    /// `127.1` or `0x7f000001` for one, behind the back of every rule.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Ip(IpAddr::V6(address).to_canonical()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Ip(address.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return None;
        }
        if !name.split('.').all(is_label) || ends_in_a_number(name) {
            // With a dot behind it an address is one all the same.
            let address: Ipv4Addr = name.parse().ok()?;
            return Some(Self::Ip(IpAddr::V4(address)));
        }
        Some(Self::Name(name.to_ascii_lowercase().into()))
    }
}

fn is_label(label: &str) -> bool {
    let fits = (1..=LABEL_BYTES_MAX).contains(&label.len());
    fits && label
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Whether the last label is one that readers of URLs take for part of an IPv4 address (WHATWG URL,
/// "ends in a number"): no top-level domain is.
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let digits = last
        .strip_prefix("0x")
        .or_else(|| last.strip_prefix("0X"))
        .map(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    digits.unwrap_or(false) || last.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for Host {
    /// As it stands in an authority, an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl Destination {
    /// Reads `host:port`, or `host` alone where there is a default for the port. `None` for anything
    /// else: a user, an empty host, port 0.
    pub fn parse(authority: &[u8], default_port: Option<u16>) -> Option<Self> {
        let text = std::str::from_utf8(authority).ok()?;
        let (host, port) = split(text)?;
        let port = match port {
            // `host:` is a host without a port (RFC 3986 3.2.3).
            None | Some("") => default_port?,
            Some(digits) => parse_port(digits)?,
        };
        let host = Host::parse(host)?;
        Some(Self { host, port })
    }

    /// What its connections are counted under.
    pub fn key(&self) -> HostKey {
        HostKey::of(&self.host, Some(self.port))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The host and what follows its colon. An IPv6 address without brackets has no port.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(end) = text.find(']') {
        let (host, rest) = text.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

fn parse_port(digits: &str) -> Option<u16> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain
        .then(|| digits.parse().ok())?
        .filter(|&port: &u16| port > 0)
}

impl HostKey {
    /// Reads `host` or `host:port` as people write it: `API.example.com`, `example.com:8443`, `::1`.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = split(text)?;
        let port = match port {
            None | Some("") => None,
            Some(digits) => Some(parse_port(digits)?),
        };
        Some(Self::of(&Host::parse(host)?, port))
    }

    fn of(host: &Host, port: Option<u16>) -> Self {
        Self(match (host, port) {
            (_, Some(port)) if !matches!(port, 80 | 443) => format!("{host}:{port}").into(),
            (Host::Name(name), _) => (**name).into(),
            // Without a port there is nothing that brackets would have to be told from.
            (Host::Ip(address), _) => address.to_string().into(),
        })
    }

    /// The key as text; also dprl's, in the keys that it has in Redis.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<String> {
        HostKey::parse(text).map(|key| key.to_string())
    }

    #[test]
    fn spellings_of_one_host_have_one_key() {
        for (text, expected) in [
            ("api.example.com", "api.example.com"),
            ("API.Example.COM", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("api.example.com:443", "api.example.com"),
            ("api.example.com:80", "api.example.com"),
            ("api.example.com.:0443", "api.example.com"),
            ("api.example.com:", "api.example.com"),
            ("api.example.com:8443", "api.example.com:8443"),
            ("localhost", "localhost"),
            ("a_b.example", "a_b.example"),
            ("127.0.0.1:443", "127.0.0.1"),
            ("127.0.0.1.:8080", "127.0.0.1:8080"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[0:0::1]:443", "::1"),
            ("[2001:DB8::1]:8443", "[2001:db8::1]:8443"),
            ("[::ffff:10.0.0.1]:8443", "10.0.0.1:8443"),
        ] {
            assert_eq!(key(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_and_what_a_resolver_may_take_for_an_address_has_no_key() {
        let long = format!("{}.com", "a".repeat(64));
        let longer = vec!["a".repeat(60); 5].join(".");
        for text in [
            "",
            ".",
            ":443",
            "a..b",
            ".a",
            "a b",
            "a/b",
            "a@b",
            "user:pw@a:1",
            "a:0",
            "a:65536",
            "a:x",
            "a:-1",
            "a:+1",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[a]",
            "::1]:1",
            "127.1",
            "0x7f.1",
            "2130706433",
            "0x7f000001",
            "127.0.0.01",
            "1.2.3.4.5",
            "a.0x1",
            "é.com",
            "a\0b",
            "fe80::1%lo",
            "[fe80::1%25lo]:1",
            "*",
            &long,
            &longer,
        ] {
            assert_eq!(key(text), None, "{text}");
        }
    }

    #[test]
    fn a_destination_needs_a_port_from_somewhere() {
        let parse = |text: &str, default| Destination::parse(text.as_bytes(), default);
        let shown = |text, default| parse(text, default).map(|found| found.to_string());
        assert_eq!(shown("A.b:444", None).as_deref(), Some("a.b:444"));
        assert_eq!(shown("a.b", None), None);
        assert_eq!(shown("a.b", Some(80)).as_deref(), Some("a.b:80"));
        assert_eq!(shown("[::1]:7", None).as_deref(), Some("[::1]:7"));
        assert_eq!(shown("[::1]", Some(80)).as_deref(), Some("[::1]:80"));
        assert_eq!(shown("a.b:0", Some(80)), None);
        assert_eq!(Destination::parse(b"a\xff:1", None), None);
        let key = parse("[::1]:443", None).map(|found| found.key().to_string());
        assert_eq!(key.as_deref(), Some("::1"));
    }
}
