//! Any bytes as a request to a forward proxy.
//!
//! - What is complete stays what it is with more bytes behind it, and is nothing of the kind with
//!   fewer.
//! - A `CONNECT` goes to an authority without blanks, a path or a user.
//! - A destination is read the same again from what it is written as, and has the same key.
//! - What goes onward is one request to every reader: it parses, names the host of the target, and
//!   keeps framing and target. (A request of HTTP/1.0 gets a line more, `Host`: with as many lines as
//!   weir accepts, that is one too many for weir, and for nobody else.)

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::egress::hosts::{Destination, HostKey};
use weir::http1::{HEADERS_MAX, Parse, Proxied, parse_proxied, parse_request};

fuzz_target!(|data: &[u8]| {
    let Parse::Complete(proxied) = parse_proxied(data) else {
        return;
    };
    let (len, authority) = match &proxied {
        Proxied::Connect(connect) => (connect.len, Some(connect.authority)),
        Proxied::Request(head) => (head.len, head.authority),
    };
    assert!(len <= data.len() && data[..len].ends_with(b"\r\n\r\n"));
    assert!(matches!(parse_proxied(&data[..len]), Parse::Complete(_)));
    assert!(matches!(parse_proxied(&data[..len - 1]), Parse::Partial));
    let Some(authority) = authority else {
        return;
    };
    assert!(!authority.iter().any(|byte| b" /?#@\r\n".contains(byte)));
    if let Some(destination) = Destination::parse(authority, Some(80)) {
        let written = destination.to_string();
        let again = Destination::parse(written.as_bytes(), None);
        assert_eq!(again.as_ref(), Some(&destination));
        let key = destination.key();
        assert_eq!(HostKey::parse(key.as_str()), Some(key));
    }
    if let Proxied::Request(head) = &proxied {
        let mut out = Vec::new();
        head.encode_onward(authority, &mut out);
        let has_host = head
            .headers()
            .any(|(name, _)| name.eq_ignore_ascii_case(b"host"));
        if !has_host && head.headers().count() == HEADERS_MAX {
            return;
        }
        let Parse::Complete(onward) = parse_request(&out) else {
            panic!("{:?}", String::from_utf8_lossy(&out));
        };
        assert_eq!(onward.len, out.len());
        assert_eq!((onward.framing, onward.target), (head.framing, head.target));
        let host = onward
            .headers()
            .find(|(name, _)| name.eq_ignore_ascii_case(b"host"));
        assert_eq!(host.map(|(_, value)| value), Some(authority));
        let mut names = onward.headers().map(|(name, _)| name.to_ascii_lowercase());
        assert!(
            !names.any(|name| name == b"proxy-authorization"),
            "kept here"
        );
    }
});
