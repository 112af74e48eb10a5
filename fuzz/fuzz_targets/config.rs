//! Any text as `UPSTREAM_URL`, the one setting with a grammar of its own and a pure entry; the
//! others are read together with the environment.
//!
//! - What is printed of an upstream is the same upstream.
//! - Its `Host` header cannot break a head: a request with it parses, and carries it unchanged.
//! - The host is in lower case, so that one upstream has one spelling; the port is never 0.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::config::UpstreamUrl;
use weir::http1::{Parse, parse_request};

fuzz_target!(|text: &str| {
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
