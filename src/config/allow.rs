//! `ALLOW_FROM`: which addresses may connect.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::bounds;

/// The networks whose addresses may connect; everybody's if there is none.
///
/// An IPv4 address that comes as an IPv6 one (`::ffff:a.b.c.d`, RFC 4291 2.5.5.2), as it does on a
/// socket bound to `::`, is the IPv4 address. Asking costs a few nanoseconds a network.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AllowFrom {
    networks: Vec<Network>,
}

/// One network (RFC 4632): the addresses whose first `prefix` bits are those of `address`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Network {
    /// Without the bits behind the prefix.
    address: IpAddr,
    /// At most 32 with an IPv4 address, 128 with an IPv6 one.
    prefix: u8,
}

/// The entry that is none of `address` and `address/prefix`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotANetwork(pub String);

impl fmt::Display for NotANetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is neither an address nor a network", self.0)
    }
}

impl std::error::Error for NotANetwork {}

impl AllowFrom {
    /// Whether nobody is kept out.
    pub fn is_everyone(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether this address may connect.
    pub fn allows(&self, address: IpAddr) -> bool {
        if self.is_everyone() {
            return true;
        }
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.holds(address))
    }
}

impl FromStr for AllowFrom {
    type Err = NotANetwork;

    /// `address` or `address/prefix`, separated by commas.
    fn from_str(list: &str) -> Result<Self, NotANetwork> {
        let mut networks = Vec::new();
        for entry in list.split(',').map(str::trim) {
            let wrong = || NotANetwork(entry.to_owned());
            if networks.len() >= bounds::ALLOW_FROM_MAX {
                return Err(wrong());
            }
            networks.push(Network::parse(entry).ok_or_else(wrong)?);
        }
        Ok(Self { networks })
    }
}

impl Network {
    pub(super) fn parse(entry: &str) -> Option<Self> {
        let (address, prefix) = match entry.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (entry, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = bits(address);
        let prefix = match prefix {
            None => bits,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= bits)?
            }
            Some(_) => return None,
        };
        // A network of IPv4 addresses written as IPv6 ones.
        let canonical = address.to_canonical();
        let offset = bits - self::bits(canonical);
        match prefix.checked_sub(offset) {
            Some(prefix) => Some(Self::masked(canonical, prefix)),
            None => Some(Self::masked(address, prefix)),
        }
    }

    fn masked(address: IpAddr, prefix: u8) -> Self {
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        };
        Self { address, prefix }
    }

    pub(super) fn holds(self, address: IpAddr) -> bool {
        // Masking an address of the other family makes none of this one.
        bits(address) == bits(self.address) && Self::masked(address, self.prefix) == self
    }
}

/// Bits of an address of this family.
const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Whether a socket bound to this address can be reached from anywhere: it is neither loopback,
/// private (RFC 1918), shared (RFC 6598), link-local nor unique local (RFC 4193). A wildcard can.
pub(super) fn is_reachable_from_anywhere(bound: IpAddr) -> bool {
    match bound.to_canonical() {
        IpAddr::V4(v4) => {
            let shared = v4.to_bits() >> 22 == 0x6440_0000 >> 22;
            !(v4.is_loopback() || v4.is_private() || v4.is_link_local() || shared)
        }
        IpAddr::V6(v6) => {
            let local = Ipv6Addr::is_unicast_link_local(&v6) || v6.is_unique_local();
            !(v6.is_loopback() || local)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(list: &str, address: &str) -> bool {
        let list: AllowFrom = list.parse().unwrap();
        list.allows(address.parse().unwrap())
    }

    #[test]
    fn without_a_list_everybody_may_come_in() {
        for address in [
            "127.0.0.1",
            "8.8.8.8",
            "::1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(
                AllowFrom::default().allows(address.parse().unwrap()),
                "{address}"
            );
        }
    }

    #[test]
    fn who_is_in_one_of_the_networks_may_come_in_and_nobody_else() {
        for (list, inside, outside) in [
            (
                "10.0.0.0/8",
                &["10.0.0.0", "10.255.255.255"][..],
                &["9.255.255.255", "11.0.0.0", "::a00:1"][..],
            ),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.6", "192.0.2.8"]),
            ("192.0.2.7/32", &["192.0.2.7"], &["192.0.2.6"]),
            (
                "192.0.2.128/25",
                &["192.0.2.128", "192.0.2.255"],
                &["192.0.2.127"],
            ),
            ("192.0.2.7/24", &["192.0.2.1"], &["192.0.3.7"]),
            (
                "0.0.0.0/0",
                &["0.0.0.0", "255.255.255.255"],
                &["::1", "2001:db8::1"],
            ),
            ("::/0", &["::1", "2001:db8::1"], &["127.0.0.1"]),
            (
                "2001:db8::/33",
                &["2001:db8::1", "2001:db8:7fff::"],
                &["2001:db8:8000::", "2001:db9::"],
            ),
            ("2001:db8::1", &["2001:db8::1"], &["2001:db8::2"]),
            (
                "10.0.0.0/8, 2001:db8::/32 ,127.0.0.1",
                &["10.1.1.1", "2001:db8::5", "127.0.0.1"],
                &["127.0.0.2"],
            ),
        ] {
            for address in inside {
                assert!(allowed(list, address), "{address} in {list}");
            }
            for address in outside {
                assert!(!allowed(list, address), "{address} not in {list}");
            }
        }
    }

    #[test]
    fn an_ipv4_address_in_ipv6_form_is_the_ipv4_address() {
        assert!(allowed("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(!allowed("10.0.0.0/8", "::ffff:11.1.2.3"));
        for list in ["::ffff:10.0.0.0/104", "::ffff:a00:0/104"] {
            assert!(
                allowed(list, "10.1.2.3") && allowed(list, "::ffff:10.1.2.3"),
                "{list}"
            );
            assert!(!allowed(list, "11.1.2.3"), "{list}");
        }
        assert!(allowed("::ffff:10.1.2.3", "10.1.2.3"));
        assert!(!allowed("::/0", "::ffff:10.1.2.3"), "it is no IPv6 address");
    }

    #[test]
    fn an_entry_that_is_no_network_is_named() {
        for wrong in [
            "",
            "x",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0/8",
            "10.0.0.0/255.0.0.0",
            "::/129",
            "::1%lo",
            "localhost",
            "[::1]",
            "1.2.3.4:80",
            "010.0.0.1",
        ] {
            let list = format!("127.0.0.1,{wrong},::1");
            assert_eq!(
                list.parse::<AllowFrom>(),
                Err(NotANetwork(wrong.to_owned()))
            );
        }
        let many = vec!["10.0.0.1"; bounds::ALLOW_FROM_MAX].join(",");
        assert!(many.parse::<AllowFrom>().is_ok());
        assert!(format!("{many},::1").parse::<AllowFrom>().is_err());
    }

    #[test]
    fn public_and_wildcard_addresses_are_reachable_from_anywhere() {
        for (address, reachable) in [
            ("0.0.0.0", true),
            ("::", true),
            ("203.0.113.1", true),
            ("8.8.8.8", true),
            ("172.32.0.1", true),
            ("100.128.0.1", true),
            ("2001:db8::1", true),
            ("::ffff:8.8.8.8", true),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.1.1", false),
            ("100.64.0.1", false),
            ("100.127.255.255", false),
            ("::1", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("::ffff:127.0.0.1", false),
        ] {
            assert_eq!(
                is_reachable_from_anywhere(address.parse().unwrap()),
                reachable,
                "{address}"
            );
        }
    }
}
