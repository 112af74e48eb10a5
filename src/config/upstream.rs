//! `UPSTREAM_URL`: where requests go.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Bytes of the longest host name (RFC 1035 2.3.4, without the final dot).
const HOST_BYTES_MAX: usize = 253;

/// Scheme, host and port of the upstream; a path is not part of it, since the client's goes
/// upstream unchanged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpstreamUrl {
    /// Whether connections speak TLS (`https`).
    pub tls: bool,
    /// A host name, or an IP address without brackets.
    pub host: String,
    /// The TCP port, 443 or 80 unless given.
    pub port: u16,
}

impl UpstreamUrl {
    /// The value of the `Host` header (RFC 9112 3.2): the port stands in it unless it is the
    /// scheme's own, an IPv6 address stands in brackets.
    pub fn host_header(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        if self.port == default_port(self.tls) {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl UpstreamUrl {
    /// Whether it is Discord itself, by its name: nothing that could be a proxy, and lead back.
    pub fn is_discord(&self) -> bool {
        let name = self.host.strip_suffix("discord.com");
        self.tls && name.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    }
}

impl Default for UpstreamUrl {
    /// `https://discord.com`
    fn default() -> Self {
        Self {
            tls: true,
            host: "discord.com".to_owned(),
            port: default_port(true),
        }
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host_header())
    }
}

/// The text is not a URL of the kind that [`UpstreamUrl`] holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAnUpstream;

impl fmt::Display for NotAnUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an upstream: https:// or http://, a host and perhaps a port")
    }
}

impl std::error::Error for NotAnUpstream {}

impl FromStr for UpstreamUrl {
    type Err = NotAnUpstream;

    fn from_str(url: &str) -> Result<Self, NotAnUpstream> {
        let (scheme, rest) = url.split_once("://").ok_or(NotAnUpstream)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(NotAnUpstream),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(NotAnUpstream)?;
                host.parse::<Ipv6Addr>().map_err(|_| NotAnUpstream)?;
                match port {
                    "" => (host, None),
                    _ => (host, Some(port.strip_prefix(':').ok_or(NotAnUpstream)?)),
                }
            }
            None => {
                let (host, port) = match authority.split_once(':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (authority, None),
                };
                if !is_host_name(host) {
                    return Err(NotAnUpstream);
                }
                (host, port)
            }
        };
        let port = match port {
            None => default_port(tls),
            Some(port) => match port.parse::<u16>() {
                Ok(number) if number != 0 && port.bytes().all(|b| b.is_ascii_digit()) => number,
                _ => return Err(NotAnUpstream),
            },
        };
        Ok(Self {
            tls,
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

pub(super) fn is_host_name(host: &str) -> bool {
    (1..=HOST_BYTES_MAX).contains(&host.len())
        && host.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

const fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_scheme_host_port_and_host_header() {
        for (url, tls, host, port, header) in [
            (
                "https://discord.com",
                true,
                "discord.com",
                443,
                "discord.com",
            ),
            (
                "https://Discord.com/",
                true,
                "discord.com",
                443,
                "discord.com",
            ),
            (
                "https://discord.com:443",
                true,
                "discord.com",
                443,
                "discord.com",
            ),
            ("http://localhost", false, "localhost", 80, "localhost"),
            (
                "http://127.0.0.1:8081",
                false,
                "127.0.0.1",
                8081,
                "127.0.0.1:8081",
            ),
            ("https://[::1]:8443", true, "::1", 8443, "[::1]:8443"),
            ("HTTPS://[::1]", true, "::1", 443, "[::1]"),
            (
                "http://discord.com:443",
                false,
                "discord.com",
                443,
                "discord.com:443",
            ),
        ] {
            let upstream: UpstreamUrl = url.parse().unwrap();
            assert_eq!(
                upstream,
                UpstreamUrl {
                    tls,
                    host: host.into(),
                    port
                },
                "{url}"
            );
            assert_eq!(upstream.host_header(), header, "{url}");
            assert_eq!(upstream.to_string().parse(), Ok(upstream), "{url}");
        }
    }

    #[test]
    fn discord_is_known_by_its_name_under_tls() {
        for (url, is) in [
            ("https://discord.com", true),
            ("https://canary.Discord.com:443", true),
            ("http://discord.com", false),
            ("https://notdiscord.com", false),
            ("https://discord.com.example", false),
            ("https://127.0.0.1", false),
        ] {
            assert_eq!(
                url.parse::<UpstreamUrl>().unwrap().is_discord(),
                is,
                "{url}"
            );
        }
    }

    #[test]
    fn what_is_no_upstream_is_refused() {
        for url in [
            "",
            "discord.com",
            "ftp://discord.com",
            "https://",
            "https://discord.com/api",
            "https://discord.com?x",
            "https://discord.com#x",
            "https://user:pw@discord.com",
            "https://discord.com:0",
            "https://discord.com:65536",
            "https://discord.com:",
            "https://discord.com:+1",
            "https://a..b",
            "https://dis cord",
            "https://[::1",
            "https://[x]",
            "https://[::1]8443",
            "https://::1",
            "https://d\u{ef}scord.com",
        ] {
            assert_eq!(url.parse::<UpstreamUrl>(), Err(NotAnUpstream), "{url}");
        }
    }
}
