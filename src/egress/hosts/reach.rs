//! Which addresses may be dialled.
//!
//! A name is judged by what it resolves to, and the address that was judged is the one that is
//! dialled: a name that means something else a moment later (DNS rebinding) gains nothing. Addresses
//! that are no part of the public Internet are refused unless `FORWARD_ALLOW` names their network:
//! behind them are this machine, its neighbours, and the metadata services of clouds
//! (169.254.169.254, fd00:ec2::254), which hand out credentials to whoever asks. Forms of IPv6 that
//! carry an IPv4 address are judged by that one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::forward::HostPatterns;
use crate::destination::Destination;

/// Which destinations may be reached.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// The only ones; `None` for all that are public.
    pub allow: Option<HostPatterns>,
    /// None of these.
    pub deny: HostPatterns,
}

impl Reach {
    /// Whether it is worth looking a name up: there may be an address of it that is allowed.
    pub fn allows_name(&self, destination: &Destination) -> bool {
        !self.deny.names(destination)
    }

    /// Whether this address of a destination may be dialled.
    pub fn allows(&self, destination: &Destination, address: IpAddr) -> bool {
        let carried = carried(address);
        let denied = |address| self.deny.holds(address, destination.port);
        if self.deny.names(destination) || denied(address) || carried.is_some_and(denied) {
            return false;
        }
        match &self.allow {
            None => is_public(address),
            Some(allow) => {
                allow.holds(address, destination.port)
                    || allow.names(destination) && is_public(address)
            }
        }
    }
}

/// Whether an address is one of the public Internet (RFC 6890 and the registries of special-purpose
/// addresses that it began, at IANA), and so is the IPv4 address that it carries, if it does.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match carried(address) {
            Some(IpAddr::V4(inner)) => is_public_v4(inner),
            Some(IpAddr::V6(_)) | None => is_public_v6(v6),
        },
    }
}

/// First bits, how many they are, of networks that are not public.
const SPECIAL_V4: [(Ipv4Addr, u32); 15] = [
    // "This network", 0.0.0.0 among it, which connects to this machine.
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    // Private (RFC 1918).
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Behind a carrier's NAT (RFC 6598); Alibaba's metadata.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local; metadata of most clouds.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // Protocol assignments; Oracle's metadata.
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // Documentation.
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Relays of 6to4, deprecated.
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    // Benchmarks.
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    // Multicast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    // Reserved, the broadcast among it.
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    !SPECIAL_V4
        .iter()
        .any(|&(network, prefix)| (address.to_bits() ^ network.to_bits()) >> (32 - prefix) == 0)
}

/// The same of IPv6, within 2000::/3, outside of which nothing is public.
const SPECIAL_V6: [(Ipv6Addr, u32); 4] = [
    // Protocol assignments, Teredo and ORCHID among them: where a packet ends is up to others.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation.
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    // 6to4, unless it carries a public address.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
];

fn is_public_v6(address: Ipv6Addr) -> bool {
    let within = |network: Ipv6Addr, prefix: u32| {
        (address.to_bits() ^ network.to_bits()) >> (128 - prefix) == 0
    };
    within(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3)
        && !SPECIAL_V6
            .iter()
            .any(|&(network, prefix)| within(network, prefix))
}

/// The IPv4 address that an IPv6 address stands for or is routed by: mapped and compatible
/// (RFC 4291 2.5.5), NAT64 (RFC 6052 2.1), 6to4 (RFC 3056), ISATAP (RFC 5214 6.1).
fn carried(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else {
        return None;
    };
    let bits = v6.to_bits();
    let low = Ipv4Addr::from_bits(bits as u32);
    let v4 = match v6.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] => low,
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => low,
        [0x2002, ..] => Ipv4Addr::from_bits((bits >> 80) as u32),
        [.., 0 | 0x200, 0x5efe, _, _] => low,
        _ => return None,
    };
    Some(IpAddr::V4(v4))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn nothing_but_the_public_internet_is_public() {
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "192.0.0.192",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "100::1",
            "2001:db8::1",
            "3fff::1",
            "2001::1",
            "2001:0:4136:e378::1",
            "2001:20::1",
            "64:ff9b:1::1",
            "4000::1",
            "1::1",
            // What carries an IPv4 address that is not public.
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
            "2002:a00:1::1",
            "2606:4700::5efe:127.0.0.1",
            "2606:4700::200:5efe:10.0.0.1",
        ] {
            assert!(!is_public(ip(special)), "{special}");
        }
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "162.159.128.233",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2a00::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert!(is_public(ip(public)), "{public}");
        }
    }

    fn allowed(allow: &str, deny: &str, destination: &str, address: &str) -> bool {
        let parse = |list: &str| -> Option<HostPatterns> {
            (!list.is_empty()).then(|| list.parse().unwrap())
        };
        let reach = Reach {
            allow: parse(allow),
            deny: parse(deny).unwrap_or_default(),
        };
        let destination = Destination::parse(destination.as_bytes(), Some(443)).unwrap();
        reach.allows(&destination, ip(address))
    }

    #[test]
    fn rules_hold_for_the_name_and_for_the_address_that_is_dialled() {
        for (allow, deny, destination, address, expected) in [
            ("", "", "a.example", "8.8.8.8", true),
            ("", "", "a.example", "127.0.0.1", false),
            ("", "", "127.0.0.1", "127.0.0.1", false),
            ("", "a.example", "a.example", "8.8.8.8", false),
            ("", "a.example", "b.example", "8.8.8.8", true),
            ("", "8.8.0.0/16", "a.example", "8.8.8.8", false),
            ("", "8.8.0.0/16", "a.example", "::ffff:8.8.8.8", false),
            ("", "8.8.0.0/16", "a.example", "64:ff9b::808:808", false),
            ("", "8.8.0.0/16", "a.example", "2002:808:808::1", false),
            ("a.example", "", "a.example", "8.8.8.8", true),
            ("a.example", "", "b.example", "8.8.8.8", false),
            // A name does not open what its owner points it at.
            ("a.example", "", "a.example", "10.0.0.1", false),
            ("*", "", "a.example", "127.0.0.1", false),
            ("a.example,10.0.0.0/8", "", "a.example", "10.0.0.1", true),
            ("10.0.0.0/8", "", "a.example", "10.0.0.1", true),
            ("10.0.0.0/8", "", "a.example", "8.8.8.8", false),
            ("10.0.0.0/8", "", "a.example", "64:ff9b::a00:1", false),
            ("*,127.0.0.0/8", "", "a.example", "8.8.8.8", true),
            ("*,127.0.0.0/8", "", "localhost", "127.0.0.1", true),
            ("*,127.0.0.0/8", "", "localhost", "::1", false),
            ("*:443", "", "a.example:25", "8.8.8.8", false),
            ("*", "*:25", "a.example:25", "8.8.8.8", false),
            ("127.0.0.0/8", "127.0.0.2", "x", "127.0.0.2", false),
            ("127.0.0.0/8", "localhost", "localhost", "127.0.0.1", false),
        ] {
            assert_eq!(
                allowed(allow, deny, destination, address),
                expected,
                "allow {allow:?} deny {deny:?}: {destination} at {address}"
            );
        }
    }
}
