use super::*;
use crate::http1::HEADERS_MAX;

fn parse(head: &[u8], method: Method) -> ResponseHead<'_> {
    match parse_response(head, method) {
        Parse::Complete(head) => head,
        other => panic!("{other:?} for {}", head.escape_ascii()),
    }
}

fn refused(head: &[u8]) -> BadResponse {
    match parse_response(head, Method::Get) {
        Parse::Invalid(bad) => bad,
        other => panic!("{other:?} for {}", head.escape_ascii()),
    }
}

#[test]
fn a_response_says_what_weir_needs_to_know() {
    let buf = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\nVia: 1.1 google\r\n\r\n{}";
    let head = parse(buf, Method::Get);
    assert_eq!((head.status, head.version), (429, Version::Http11));
    assert_eq!(head.framing, Framing::Length(2));
    assert!(head.keep_alive && !head.is_interim());
    assert_eq!(&buf[head.len..], b"{}");
    let headers: Vec<_> = head.headers().collect();
    assert_eq!(headers[1], (&b"Via"[..], &b"1.1 google"[..]));
    for end in 0..head.len {
        assert!(
            matches!(parse_response(&buf[..end], Method::Get), Parse::Partial),
            "{end}"
        );
    }
}

#[test]
fn an_interim_answer_that_announces_a_body_is_refused() {
    for line in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        for status in [100, 102, 103] {
            for method in [Method::Get, Method::Head, Method::Post] {
                let buf = format!("HTTP/1.1 {status} X\r\n{line}\r\n\r\n");
                assert!(
                    matches!(
                        parse_response(buf.as_bytes(), method),
                        Parse::Invalid(BadResponse::InterimBody)
                    ),
                    "{method:?} {buf}"
                );
            }
        }
    }
}

#[test]
fn method_and_status_decide_whether_a_body_follows() {
    use Framing::{Chunked, Length, None, UntilClose};
    const LENGTH: &str = "Content-Length: 5\r\n";
    const EMPTY: &str = "Content-Length: 0\r\n";
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
    for (method, status, lines, framing, keep_alive) in [
        (Method::Get, 200, LENGTH, Length(5), true),
        (Method::Get, 200, CHUNKED, Chunked, true),
        (Method::Get, 200, "", UntilClose, false),
        (Method::Other, 599, LENGTH, Length(5), true),
        (Method::Head, 200, LENGTH, None, true),
        (Method::Head, 200, CHUNKED, None, true),
        (Method::Head, 404, "", None, true),
        (Method::Get, 304, LENGTH, None, true),
        (Method::Get, 304, CHUNKED, None, true),
        (Method::Delete, 204, "", None, true),
        (Method::Delete, 204, EMPTY, None, true),
        // An upstream that announces a body here may send one: never to be reused.
        (Method::Delete, 204, LENGTH, None, false),
        (Method::Delete, 204, CHUNKED, None, false),
        (Method::Head, 204, LENGTH, None, true),
        (Method::Post, 100, "", None, true),
        (Method::Post, 103, EMPTY, None, true),
        (Method::Get, 205, "", UntilClose, false),
    ] {
        let buf = format!("HTTP/1.1 {status} X\r\n{lines}\r\n");
        let head = parse(buf.as_bytes(), method);
        let case = format!("{method:?} {status} {lines}");
        assert_eq!(
            (head.framing, head.keep_alive),
            (framing, keep_alive),
            "{case}"
        );
        assert_eq!(head.is_interim(), status < 200);
    }
}

#[test]
fn upstream_connections_persist_by_version_and_wish() {
    for (version, line, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
    ] {
        let buf = format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\n{line}\r\n");
        assert_eq!(
            parse(buf.as_bytes(), Method::Get).keep_alive,
            keep_alive,
            "{version} {line}"
        );
    }
}

#[test]
fn what_is_not_the_grammar_is_refused() {
    for (head, bad) in [
        ("HTTP/1.1 200 OK\nA: b\r\n\r\n", BadResponse::LineEnding),
        ("HTTP/1.1 200\nA: b\r\n\r\n", BadResponse::LineEnding),
        ("HTTP/1.1 200 OK\r\nA: b\n\r\n", BadResponse::LineEnding),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\n", BadResponse::LineEnding),
        ("HTTP/1.1 200 OK\n\n", BadResponse::LineEnding),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", BadResponse::Malformed),
        ("\nHTTP/1.1 200 OK\r\n\r\n", BadResponse::Malformed),
        ("HTTP/1.1  200 OK\r\n\r\n", BadResponse::Malformed),
        ("HTTP/1.1 20 OK\r\n\r\n", BadResponse::Malformed),
        ("HTTP/1.1 2000 OK\r\n\r\n", BadResponse::Malformed),
        ("HTTP/1.1 200 O\0K\r\n\r\n", BadResponse::Malformed),
        ("HTTP/1.1 200 O\rK\r\n\r\n", BadResponse::Malformed),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", BadResponse::Malformed),
        (
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            BadResponse::Malformed,
        ),
        ("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", BadResponse::Malformed),
        ("HTTP/1.1 200 OK\r\n: b\r\n\r\n", BadResponse::Malformed),
        ("HTTP/2 200 OK\r\n\r\n", BadResponse::Version),
        ("220 mail.example ESMTP\r\n\r\n", BadResponse::Version),
        ("HTTP/1.1 099 Low\r\n\r\n", BadResponse::Status),
        ("HTTP/1.1 600 High\r\n\r\n", BadResponse::Status),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            BadResponse::SwitchingProtocols,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: content-length\r\n\r\n",
            BadResponse::Connection,
        ),
    ] {
        assert_eq!(refused(head.as_bytes()), bad, "{}", head.escape_debug());
    }
}

#[test]
fn heads_beyond_the_caps_are_refused() {
    let lines = |count: usize| format!("HTTP/1.1 204 X\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!(
        parse(lines(HEADERS_MAX).as_bytes(), Method::Get)
            .fields
            .len(),
        HEADERS_MAX
    );
    assert_eq!(
        refused(lines(HEADERS_MAX + 1).as_bytes()),
        BadResponse::TooManyHeaders
    );

    let sized = |len: usize| format!("HTTP/1.1 204 X\r\nA: {}\r\n\r\n", "a".repeat(len - 23));
    assert_eq!(
        parse(sized(HEAD_BYTES_MAX).as_bytes(), Method::Get).len,
        HEAD_BYTES_MAX
    );
    let over = sized(HEAD_BYTES_MAX + 1);
    assert_eq!(refused(over.as_bytes()), BadResponse::HeadTooLarge);
    assert_eq!(
        refused(&over.as_bytes()[..HEAD_BYTES_MAX]),
        BadResponse::HeadTooLarge
    );
    let partial = parse_response(&over.as_bytes()[..HEAD_BYTES_MAX - 1], Method::Get);
    assert!(matches!(partial, Parse::Partial));
}

#[test]
fn a_head_is_relayed_from_its_outline_as_from_itself() {
    let bytes = b"HTTP/1.1 200 OK\r\nVia: 1.1 google\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
        Transfer-Encoding: chunked\r\nX-RateLimit-Limit:  5 \r\n\r\nrest";
    let head = parse(bytes, Method::Get);
    let outline = head.outline();
    let again = outline.over(bytes);
    assert_eq!(format!("{again:?}"), format!("{head:?}"));
    for version in [Version::Http10, Version::Http11] {
        let to = crate::http1::ClientSide {
            version,
            keep_alive: true,
        };
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let relay = head.encode(to, &mut one);
        assert_eq!(again.encode(to, &mut other), relay);
        assert_eq!(one, other);
    }
}
