//! Any bytes as a response head, answering a GET and a HEAD.
//!
//! - A parsed head keeps within the caps, and 1xx, 204, 304 and answers to HEAD have no body.
//! - Its names are tokens; its values hold nothing that ends a line.
//! - However the bytes are cut, the parser comes to the same verdict.
//! - What is encoded for a client parses as the same answer: status, framing and all lines but
//!   those of this hop, in their order; and it promises no open connection that it cannot keep.
//! - A head that is said to be as it would be written is; and what was written is said to be.

#![no_main]

mod heads;

use heads::{Line, Said};
use libfuzzer_sys::fuzz_target;
use weir::http1::{
    ClientSide, Framing, HEAD_BYTES_MAX, HEADERS_MAX, Method, Parse, Relay, ResponseHead, Version,
    parse_response,
};

fuzz_target!(|data: &[u8]| {
    for method in [Method::Get, Method::Head] {
        let parse = |bytes: &[u8]| Said::of(&parse_response(bytes, method), |head| head.len);
        heads::check_prefixes(data, parse);
        let Parse::Complete(head) = parse_response(data, method) else {
            continue;
        };
        assert!(head.len <= data.len().min(HEAD_BYTES_MAX));
        assert!(head.fields.len() <= HEADERS_MAX);
        heads::check_lines(head.headers());
        assert!((100..=599).contains(&head.status) && head.status != 101);
        if method == Method::Head || head.is_interim() || matches!(head.status, 204 | 304) {
            assert_eq!(head.framing, Framing::None);
        }
        assert!(head.framing != Framing::UntilClose || !head.keep_alive);
        if heads::has_room(head.fields.len(), head.len) {
            for (version, keep_alive) in [
                (Version::Http11, true),
                (Version::Http11, false),
                (Version::Http10, true),
                (Version::Http10, false),
            ] {
                let to = ClientSide {
                    version,
                    keep_alive,
                };
                check_encoded(&head, to, method);
            }
            check_as_encoded(&head, data, method);
        }
    }
});

fn check_encoded(head: &ResponseHead<'_>, to: ClientSide, method: Method) {
    let mut encoded = Vec::new();
    let relay = head.encode(to, &mut encoded);
    let Parse::Complete(again) = parse_response(&encoded, method) else {
        panic!("not a response: {}", encoded.escape_ascii());
    };
    assert_eq!(again.len, encoded.len());
    assert_eq!(again.version, Version::Http11);
    assert_eq!(again.status, head.status);
    let dechunked = to.version == Version::Http10 && head.framing == Framing::Chunked;
    assert_eq!(relay.dechunk, dechunked);
    if dechunked {
        assert_eq!(again.framing, Framing::UntilClose);
    } else {
        assert_eq!(again.framing, head.framing);
    }
    if again.framing == Framing::UntilClose {
        assert!(!relay.keep_alive, "only closing ends this body");
    }
    assert!(to.keep_alive || !relay.keep_alive);
    if to.version == Version::Http11 && !head.is_interim() {
        assert_eq!(again.keep_alive, relay.keep_alive);
    }
    let lines: Vec<Line<'_>> = again.headers().collect();
    assert_eq!(lines, expected(head, to, relay));
}

fn check_as_encoded(head: &ResponseHead<'_>, data: &[u8], method: Method) {
    let open = ClientSide {
        version: Version::Http11,
        keep_alive: true,
    };
    let mut written = Vec::new();
    let relay = head.encode(open, &mut written);
    if head.is_as_encoded() {
        assert_eq!(written, &data[..head.len]);
        assert!(relay.keep_alive && !relay.dechunk);
    }
    let Parse::Complete(again) = parse_response(&written, method) else {
        panic!("not a response: {}", written.escape_ascii());
    };
    let stays_open = relay.keep_alive || head.is_interim();
    assert_eq!(again.is_as_encoded(), stays_open);
}

/// The lines that the client has to get.
fn expected<'b>(head: &ResponseHead<'b>, to: ClientSide, relay: Relay) -> Vec<Line<'b>> {
    let all: Vec<Line<'b>> = head.headers().collect();
    let bare = head.is_interim() || head.status == 204;
    let chunked = head.framing == Framing::Chunked && !relay.dechunk;
    let mut lines = Vec::new();
    for &(name, value) in &all {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if heads::is_cut(name, &all) || bare && is(b"content-length") {
            continue;
        }
        if !is(b"transfer-encoding") {
            lines.push((name, value));
        } else if chunked {
            lines.push((name, b"chunked"));
        }
    }
    match (to.version, relay.keep_alive) {
        _ if head.is_interim() => {}
        (Version::Http11, false) => lines.push((b"Connection", b"close")),
        (Version::Http10, true) => lines.push((b"Connection", b"keep-alive")),
        (Version::Http11, true) | (Version::Http10, false) => {}
    }
    lines
}
