//! Any text as `UPSTREAM_URL` and as a route of `DEFAULT_BUCKETS`, the settings with a grammar of
//! their own and a pure entry; the others are read together with the environment.
//!
//! - What is printed of an upstream is the same upstream.
//! - Its `Host` header cannot break a head: a request with it parses, and carries it unchanged.
//! - What is printed of a route is the same route; written for all ids, it has a key, and so does
//!   each class of it.
//! - The host is in lower case, so that one upstream has one spelling; the port is never 0.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::config::{RouteTemplate, UpstreamUrl};
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
