//! Any bytes as a request head.
//!
//! - A parsed head keeps within the caps, and never ends when the client closes.
//! - Its names are tokens; its values hold nothing that ends a line.
//! - However the bytes are cut, the parser comes to the same verdict.
//! - What is encoded for the upstream parses as the same request: method, target, framing,
//!   `Authorization` and all lines but those of this hop, in their order.

#![no_main]

mod heads;

use heads::{Line, Said};
use libfuzzer_sys::fuzz_target;
use weir::http1::{
    Framing, HEAD_BYTES_MAX, HEADERS_MAX, METHOD_BYTES_MAX, Parse, RequestHead, TARGET_BYTES_MAX,
    Version, parse_request,
};

const HOST: &[u8] = b"discord.com";

fuzz_target!(|data: &[u8]| {
    heads::check_prefixes(data, |bytes| {
        Said::of(&parse_request(bytes), |head| head.len)
    });
    if let Parse::Complete(head) = parse_request(data) {
        assert!(head.len <= data.len().min(HEAD_BYTES_MAX));
        assert!(head.fields.len() <= HEADERS_MAX);
        assert!(head.target.len() <= TARGET_BYTES_MAX && !head.target.is_empty());
        assert!(head.method_bytes.len() <= METHOD_BYTES_MAX);
        assert_ne!(head.framing, Framing::UntilClose);
        heads::check_lines(head.headers());
        if heads::has_room(head.fields.len(), head.len) {
            check_encoded(&head);
        }
    }
});

fn check_encoded(head: &RequestHead<'_>) {
    let mut encoded = Vec::new();
    head.encode(HOST, &mut encoded);
    let Parse::Complete(again) = parse_request(&encoded) else {
        panic!("not a request: {}", encoded.escape_ascii());
    };
    assert_eq!(again.len, encoded.len());
    assert_eq!(again.version, Version::Http11);
    assert_eq!(again.method_bytes, head.method_bytes);
    assert_eq!(again.method, head.method);
    assert_eq!(again.target, head.target);
    assert_eq!(again.authority, None);
    assert_eq!(again.framing, head.framing);
    assert_eq!(again.authorization, head.authorization);
    assert!(again.keep_alive && !again.expect_continue && again.routed_to.is_none());
    assert_eq!(again.abort_after, None);
    let lines: Vec<Line<'_>> = again.headers().collect();
    assert_eq!(lines, expected(head));
}

/// The lines that the upstream has to get.
fn expected<'b>(head: &RequestHead<'b>) -> Vec<Line<'b>> {
    let all: Vec<Line<'b>> = head.headers().collect();
    let is_host = |name: &[u8]| name.eq_ignore_ascii_case(b"host");
    let mut lines = Vec::new();
    if !all.iter().any(|(name, _)| is_host(name)) {
        lines.push((&b"Host"[..], HOST));
    }
    for &(name, value) in &all {
        let ours = [
            &b"expect"[..],
            b"nirn-routed-to",
            b"x-ratelimit-abort-after",
        ];
        if ours.iter().any(|known| name.eq_ignore_ascii_case(known)) || heads::is_cut(name, &all) {
            continue;
        }
        let value = if is_host(name) {
            HOST
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            b"chunked"
        } else {
            value
        };
        lines.push((name, value));
    }
    lines
}
