//! What holds for all of `http1` together: whatever is accepted is read alike by the next hop.

use proptest::prelude::*;

use super::*;

/// The head as a simple-minded server would read it: lines cut at CRLF, names at the first colon.
struct Plain {
    start: String,
    lines: Vec<(String, Vec<u8>)>,
    rest: Vec<u8>,
}

fn read_plainly(wire: &[u8]) -> Plain {
    let end = wire
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("an end");
    let head = &wire[..end];
    for (at, &byte) in head.iter().enumerate() {
        match byte {
            b'\n' => assert_eq!(head[at - 1], b'\r', "bare LF"),
            b'\r' => assert_eq!(head[at + 1], b'\n', "bare CR"),
            b'\t' => {}
            _ => assert!(byte >= b' ' && byte != 0x7f, "control byte"),
        }
    }
    let mut pieces = Vec::new();
    let mut from = 0;
    for at in 0..=head.len() {
        if at == head.len() || head[at..].starts_with(b"\r\n") {
            pieces.push(&head[from..at]);
            from = at + 2;
        }
    }
    let start = String::from_utf8_lossy(pieces[0]).into_owned();
    let lines = pieces[1..].iter().map(|line| {
        let colon = line.iter().position(|&byte| byte == b':').expect("a colon");
        let name = String::from_utf8(line[..colon].to_vec()).unwrap();
        assert!(!name.is_empty() && !name.contains([' ', '\t']), "{name:?}");
        (name.to_lowercase(), line[colon + 1..].trim_ascii().to_vec())
    });
    Plain {
        start,
        lines: lines.collect(),
        rest: wire[end + 4..].to_vec(),
    }
}

impl Plain {
    fn values(&self, name: &str) -> Vec<&[u8]> {
        self.lines
            .iter()
            .filter(|line| line.0 == name)
            .map(|line| &line.1[..])
            .collect()
    }

    /// The framing these lines declare, if they declare exactly one or none.
    fn framing(&self, undeclared: Framing) -> Framing {
        let (lengths, codings) = (
            self.values("content-length"),
            self.values("transfer-encoding"),
        );
        match (&lengths[..], &codings[..]) {
            ([], []) => undeclared,
            ([length], []) => {
                Framing::Length(std::str::from_utf8(length).unwrap().parse().unwrap())
            }
            ([], [b"chunked"]) => Framing::Chunked,
            other => panic!("ambiguous: {other:?}"),
        }
    }
}

const HOPS: [&str; 12] = [
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "x-private",
    "expect",
    "nirn-routed-to",
    "x-ratelimit-abort-after",
];

/// A header line, sound or nearly so.
fn line() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "Content-Length",
        "content-length",
        "Transfer-Encoding",
        "TRANSFER-ENCODING",
        "Connection",
        "Host",
        "Authorization",
        "Expect",
        "X-Private",
        "Keep-Alive",
        "TE",
        "Upgrade",
        "Accept",
        "Accept",
        "User-Agent",
        "Set-Cookie",
        "X-RateLimit-Bucket",
        "nirn-routed-to",
        "Trailer",
        "Proxy-Authorization",
        "X-RateLimit-Abort-After",
        "Content-Length ",
        " Host",
        "",
    ]);
    let colon = prop_oneof![8 => Just(":"), 8 => Just(": "), 2 => Just(":\t "), 1 => Just(" : ")];
    let value = prop_oneof![
        4 => Just("5"), 4 => Just("chunked"), 1 => Just("0"), 1 => Just("05"), 1 => Just("5, 5"),
        1 => Just("gzip, chunked"), 2 => Just("close"), 2 => Just("keep-alive, x-private"),
        1 => Just("transfer-encoding"), 1 => Just("content-length"), 2 => Just(""),
        2 => Just("a b"), 2 => Just("100-continue"), 1 => Just("é"), 1 => Just("\u{b}chunked"),
        2 => Just("h"), 1 => Just("a\r\n b"),
    ];
    let end = prop_oneof![60 => Just("\r\n"), 8 => Just(" \r\n"), 1 => Just("\n"), 1 => Just("\r")];
    (name, colon, value, end)
        .prop_map(|(name, colon, value, end)| format!("{name}{colon}{value}{end}"))
}

/// A head around such lines, perhaps with one byte changed, and something behind it.
fn wire(starts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::collection::vec(line(), 0..6);
    let rest = prop_oneof![
        Just(""),
        Just("GET /smuggled HTTP/1.1\r\n\r\n"),
        Just("5\r\nhello")
    ];
    let byte = prop_oneof![prop::sample::select(&b"\r\n :\t\0,"[..]), any::<u8>()];
    let change = prop::option::weighted(0.3, (any::<prop::sample::Index>(), byte, 0..3));
    (prop::sample::select(starts), lines, rest, change).prop_map(|(start, lines, rest, change)| {
        let mut wire = format!("{start}{}\r\n{rest}", lines.concat()).into_bytes();
        if let Some((at, byte, how)) = change {
            let at = at.index(wire.len());
            match how {
                0 => wire[at] = byte,
                1 => wire.insert(at, byte),
                _ => drop(wire.remove(at)),
            }
        }
        wire
    })
}

const REQUESTS: &[&str] = &[
    "POST /a HTTP/1.1\r\nHost: h\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\n",
    "GET http://h/a?b HTTP/1.1\r\n",
    "PUT /a HTTP/1.0\r\n",
    "\r\nDELETE /a HTTP/1.1\r\nhost: h\r\n",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 200\r\n",
    "HTTP/1.0 404 Not Found\r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "HTTP/1.1 103 Early Hints\r\n",
];

/// A request accepted and relayed is the same request to the next reader, and to weir itself.
fn check_request(wire: &[u8]) -> bool {
    let Parse::Complete(head) = parse_request(wire) else {
        return false;
    };
    let skipped = wire
        .iter()
        .position(|byte| !b"\r\n".contains(byte))
        .unwrap();
    let arrived = read_plainly(&wire[skipped..]);
    assert_eq!(
        arrived.rest,
        &wire[head.len..],
        "the head ends where a plain reader ends it"
    );

    let mut out = Vec::new();
    head.encode(b"discord.com", &mut out);
    let sent = read_plainly(&out);
    assert!(sent.rest.is_empty());
    assert_eq!(sent.values("host"), [b"discord.com"]);
    assert_eq!(sent.framing(Framing::None), head.framing);
    assert_eq!(
        sent.values("authorization").first().copied(),
        head.authorization
    );
    assert_eq!(sent.start.split(' ').count(), 3);

    let private = arrived.values("connection").concat().to_ascii_lowercase();
    let private = String::from_utf8_lossy(&private).contains("x-private");
    let goes_on = |name: &str| match name {
        "host" | "transfer-encoding" => false,
        "x-private" => !private,
        name => !HOPS.contains(&name),
    };
    let rest = |plain: &Plain| -> Vec<_> {
        plain
            .lines
            .iter()
            .filter(|line| goes_on(&line.0))
            .cloned()
            .collect()
    };
    assert_eq!(rest(&sent), rest(&arrived));
    let stay = |line: &(String, Vec<u8>)| {
        goes_on(&line.0) || ["host", "transfer-encoding"].contains(&&line.0[..])
    };
    assert!(sent.lines.iter().all(stay), "{:?}", sent.lines);

    let Parse::Complete(again) = parse_request(&out) else {
        panic!("{}", out.escape_ascii())
    };
    assert_eq!(
        (again.framing, again.target, again.len),
        (head.framing, head.target, out.len())
    );
    let mut twice = Vec::new();
    again.encode(b"discord.com", &mut twice);
    assert_eq!(twice, out);
    true
}

/// An answer accepted and relayed ends, for every client, where the upstream's ended.
fn check_response(wire: &[u8], method: Method, to: ClientSide) -> bool {
    let Parse::Complete(head) = parse_response(wire, method) else {
        return false;
    };
    assert_eq!(read_plainly(wire).rest, &wire[head.len..]);

    let mut out = Vec::new();
    let relay = head.encode(to, &mut out);
    let sent = read_plainly(&out);
    assert!(sent.rest.is_empty());
    let Parse::Complete(again) = parse_response(&out, method) else {
        panic!()
    };
    let follows = if relay.dechunk {
        Framing::UntilClose
    } else {
        head.framing
    };
    assert_eq!(again.framing, follows);
    if follows != Framing::None {
        assert_eq!(sent.framing(Framing::UntilClose), follows);
    }
    if follows == Framing::UntilClose {
        assert!(!relay.keep_alive);
    }
    if to.version == Version::Http10 {
        assert!(sent.values("transfer-encoding").is_empty());
    } else if !head.is_interim() {
        assert_eq!(
            sent.values("connection").contains(&&b"close"[..]),
            !relay.keep_alive
        );
    }
    assert!(!relay.keep_alive || to.keep_alive);
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_accepted_request_is_the_same_request_to_the_next_reader(wire in wire(REQUESTS)) {
        check_request(&wire);
    }

    #[test]
    fn an_accepted_response_ends_for_the_client_where_it_ended_upstream(
        wire in wire(RESPONSES),
        head in any::<bool>(),
        old in any::<bool>(),
        keep_alive in any::<bool>(),
    ) {
        let version = if old { Version::Http10 } else { Version::Http11 };
        let method = if head { Method::Head } else { Method::Get };
        check_response(&wire, method, ClientSide { version, keep_alive });
    }

    #[test]
    fn a_head_is_partial_until_its_last_byte_and_then_the_same_whatever_follows(
        wire in wire(REQUESTS),
    ) {
        if let Parse::Complete(head) = parse_request(&wire) {
            for end in 0..head.len {
                prop_assert!(matches!(parse_request(&wire[..end]), Parse::Partial), "{}", end);
            }
            let Parse::Complete(alone) = parse_request(&wire[..head.len]) else { panic!() };
            prop_assert_eq!(alone.len, head.len);
            for seen in 0..head.len {
                prop_assert!(may_complete(&wire[..head.len], seen), "{}", seen);
            }
        }
    }

    #[test]
    fn nothing_makes_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_request(&bytes);
        let to = ClientSide { version: Version::Http11, keep_alive: true };
        check_response(&bytes, Method::Get, to);
        let status_line = [b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat();
        let _ = parse_response(&status_line, Method::Get);
        let request_line = [b"GET / HTTP/1.1\r\n", &bytes[..]].concat();
        let _ = parse_request(&request_line);
        let _ = ChunkedDecoder::new().advance(&bytes);
    }
}

#[test]
fn the_generated_heads_are_often_accepted() {
    // A property over heads that are all refused would hold for nothing.
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let to = ClientSide {
        version: Version::Http11,
        keep_alive: true,
    };
    let mut accepted = (0, 0);
    for _ in 0..1000 {
        let request = wire(REQUESTS).new_tree(&mut runner).unwrap().current();
        accepted.0 += usize::from(check_request(&request));
        let response = wire(RESPONSES).new_tree(&mut runner).unwrap().current();
        accepted.1 += usize::from(check_response(&response, Method::Get, to));
    }
    assert!(accepted.0 > 150 && accepted.1 > 150, "{accepted:?} of 1000");
}

#[test]
fn only_a_blank_line_in_what_is_new_is_worth_another_parse() {
    for (buf, seen, worth) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n", 0, false),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r", 0, false),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0, true),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\nbody", 10, true),
        ("GET / HTTP/1.1\r\nHost: h\r\n\n", 10, true),
        ("ab\n\r\n", 4, true),
        ("ab\n\r\n", 3, true),
        ("ab\n\n", 3, true),
        ("ab\r\ncd", 4, false),
        ("", 0, false),
        ("ab", 7, false),
    ] {
        assert_eq!(may_complete(buf.as_bytes(), seen), worth, "{buf:?} {seen}");
    }
    assert!(may_complete(
        &vec![b'a'; HEAD_BYTES_MAX],
        HEAD_BYTES_MAX - 1
    ));
    assert!(!may_complete(&vec![b'a'; HEAD_BYTES_MAX - 1], 0));
}

#[test]
fn methods_have_names_and_only_reading_ones_are_safe() {
    let safe = ["GET", "HEAD", "OPTIONS", "TRACE"];
    let unsafe_ = ["POST", "PUT", "PATCH", "DELETE", "CONNECT"];
    for name in safe.into_iter().chain(unsafe_) {
        let method = Method::from_bytes(name.as_bytes());
        assert_eq!(method.as_str(), name);
        assert_eq!(method.is_safe(), safe.contains(&name));
    }
    for other in ["get", "PURGE", "", "OTHER"] {
        assert_eq!(Method::from_bytes(other.as_bytes()), Method::Other);
    }
    assert_eq!(Method::Other.as_str(), "OTHER");
    assert!(!Method::Other.is_safe());
}
