//! Any text as `UPSTREAM_URL`, as a route of `DEFAULT_BUCKETS` and as `ALLOW_FROM`, the settings with
//! a grammar of their own and a pure entry; the others are read together with the environment.
//!
//! - What is printed of an upstream is the same upstream.
//! - Its `Host` header cannot break a head: a request with it parses, and carries it unchanged.
//! - What is printed of a route is the same route; written for all ids, it has a key, and so does
//!   each class of it.
//! - A network lets in its own address and any that differs behind its prefix, and none that differs
//!   before; several let in what one of them does.
//! - The host is in lower case, so that one upstream has one spelling; the port is never 0.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::IpAddr;
use weir::config::{AllowFrom, RouteTemplate, UpstreamUrl};
use weir::http1::{Parse, parse_request};
use weir::route::Keys;

fuzz_target!(|text: &str| {
    if let Ok(template) = text.parse::<RouteTemplate>() {
        assert_eq!(template.to_string().parse(), Ok(template.clone()));
        let keys = Keys::with_seeds([1, 2, 3, 4]);
        let count = keys.template_keys(template.method(), template.path()).len();
        assert!(
            count == 1 || count == 3 && template.method() == "DELETE",
            "{template}"
        );
    }
    check_networks(text);
    let Ok(upstream) = text.parse::<UpstreamUrl>() else {
        return;
    };
    assert_eq!(upstream.to_string().parse(), Ok(upstream.clone()));
    assert_ne!(upstream.port, 0);
    assert!(!upstream.host.is_empty());
    assert!(!upstream.host.bytes().any(|byte| byte.is_ascii_uppercase()));

    let host = upstream.host_header();
    let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let Parse::Complete(head) = parse_request(head.as_bytes()) else {
        panic!("not a Host: {host:?}");
    };
    let values: Vec<_> = head.headers().map(|(_, value)| value).collect();
    assert_eq!(values, [host.as_bytes()]);
});

fn check_networks(text: &str) {
    let Ok(all) = text.parse::<AllowFrom>() else {
        return;
    };
    assert!(!all.is_everyone());
    for entry in text.split(',') {
        let one: AllowFrom = entry.parse().expect("an entry of a list");
        let (address, prefix) = entry.trim().split_once('/').unwrap_or((entry.trim(), ""));
        let address: IpAddr = address.parse().expect("an address");
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix: u32 = prefix.parse().unwrap_or(bits);
        let mapped = address.to_canonical() != address;
        // IPv4 addresses are not in a network of IPv6 that is wider than all of them.
        if mapped && prefix < 96 {
            continue;
        }
        assert!(one.allows(address) && all.allows(address), "{entry}");
        for bit in [prefix.checked_sub(1), Some(0), Some(prefix), Some(bits - 1)] {
            let Some(other) = bit.filter(|&bit| bit < bits).map(|bit| flip(address, bit)) else {
                continue;
            };
            // An IPv4 address written as an IPv6 one is the IPv4 address, and in no network of
            // the others.
            if other.to_canonical().is_ipv4() == address.to_canonical().is_ipv4() {
                let inside = bit >= Some(prefix);
                assert_eq!(one.allows(other), inside, "{other} in {entry}");
                assert!(!inside || all.allows(other));
            }
        }
    }
}

/// The address with another bit at this place, counted from the front.
fn flip(address: IpAddr, bit: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() ^ (1 << (31 - bit))).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() ^ (1 << (127 - bit))).into()),
    }
}
