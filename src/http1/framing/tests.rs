use super::*;
use crate::http1::{BadRequest, BadResponse, Method, Parse, parse_request, parse_response};

fn request(version: &str, lines: &str) -> Result<Framing, BadFraming> {
    let head = format!("POST / HTTP/{version}\r\nHost: h\r\n{lines}\r\n");
    match parse_request(head.as_bytes()) {
        Parse::Complete(head) => Ok(head.framing),
        Parse::Invalid(BadRequest::Framing(bad)) => Err(bad),
        other => panic!("{other:?}"),
    }
}

fn response(version: &str, lines: &str) -> Result<Framing, BadFraming> {
    let head = format!("HTTP/{version} 200 OK\r\n{lines}\r\n");
    match parse_response(head.as_bytes(), Method::Get) {
        Parse::Complete(head) => Ok(head.framing),
        Parse::Invalid(BadResponse::Framing(bad)) => Err(bad),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_framing_table_holds_for_requests_and_responses() {
    use BadFraming::{
        CodingInHttp10, CodingUnsupported, LengthAndCoding, LengthInvalid, LengthRepeated,
    };
    for (lines, framing) in [
        ("Content-Length: 0\r\n", Ok(Framing::Length(0))),
        ("content-length:42\r\n", Ok(Framing::Length(42))),
        ("Content-Length: \t7 \t\r\n", Ok(Framing::Length(7))),
        (
            "Content-Length: 9223372036854775807\r\n",
            Ok(Framing::Length(i64::MAX as u64)),
        ),
        (
            "Content-Length: 9223372036854775808\r\n",
            Err(LengthInvalid),
        ),
        (
            "Content-Length: 18446744073709551617\r\n",
            Err(LengthInvalid),
        ),
        ("Content-Length: 00\r\n", Err(LengthInvalid)),
        ("Content-Length: 010\r\n", Err(LengthInvalid)),
        ("Content-Length:\r\n", Err(LengthInvalid)),
        ("Content-Length: +5\r\n", Err(LengthInvalid)),
        ("Content-Length: -5\r\n", Err(LengthInvalid)),
        ("Content-Length: 5 5\r\n", Err(LengthInvalid)),
        ("Content-Length: 5, 5\r\n", Err(LengthInvalid)),
        ("Content-Length: 5,\r\n", Err(LengthInvalid)),
        ("Content-Length: 0x5\r\n", Err(LengthInvalid)),
        ("Content-Length: 5.0\r\n", Err(LengthInvalid)),
        ("Content-Length: 5e1\r\n", Err(LengthInvalid)),
        ("Content-Length: ٥\r\n", Err(LengthInvalid)),
        (
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            Err(LengthRepeated),
        ),
        (
            "Content-Length: 5\r\nCONTENT-LENGTH: 6\r\n",
            Err(LengthRepeated),
        ),
        ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
        ("transfer-encoding: CHUNKED \r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding:\r\n", Err(CodingUnsupported)),
        ("Transfer-Encoding: identity\r\n", Err(CodingUnsupported)),
        ("Transfer-Encoding:  chunked  \r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding: chunked\t\r\n", Err(CodingUnsupported)),
        ("Transfer-Encoding:\tchunked\r\n", Err(CodingUnsupported)),
        ("Transfer-Encoding: xchunked\r\n", Err(CodingUnsupported)),
        ("Transfer-Encoding: chunkedx\r\n", Err(CodingUnsupported)),
        ("Transfer-Encoding: chunked,\r\n", Err(CodingUnsupported)),
        ("Transfer-Encoding: \"chunked\"\r\n", Err(CodingUnsupported)),
        ("Transfer-Encoding: chunked;q=1\r\n", Err(CodingUnsupported)),
        (
            "Transfer-Encoding: chunked, chunked\r\n",
            Err(CodingUnsupported),
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            Err(CodingUnsupported),
        ),
        (
            "Transfer-Encoding: chunked, identity\r\n",
            Err(CodingUnsupported),
        ),
        (
            "Transfer-Encoding: \u{a0}chunked\r\n",
            Err(CodingUnsupported),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Err(CodingUnsupported),
        ),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            Err(CodingUnsupported),
        ),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            Err(LengthAndCoding),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            Err(LengthAndCoding),
        ),
        (
            "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
            Err(LengthAndCoding),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
            Err(LengthAndCoding),
        ),
        // Names that some readers take for these.
        (
            "Content-Length: 3\r\nTransfer_Encoding: chunked\r\n",
            Err(BadFraming::LookAlike),
        ),
        ("content_length: 3\r\n", Err(BadFraming::LookAlike)),
        // Names that only look like framing are none of our business.
        (
            "Content-Length: 3\r\nTransfer-Encodings: chunked\r\n",
            Ok(Framing::Length(3)),
        ),
    ] {
        assert_eq!(request("1.1", lines), framing, "request {lines}");
        assert_eq!(response("1.1", lines), framing, "response {lines}");
    }
    assert_eq!(request("1.1", ""), Ok(Framing::None));
    assert_eq!(response("1.1", ""), Ok(Framing::UntilClose));
    for read in [request, response] {
        assert_eq!(read("1.0", "Content-Length: 5\r\n"), Ok(Framing::Length(5)));
        assert_eq!(
            read("1.0", "Transfer-Encoding: chunked\r\n"),
            Err(CodingInHttp10)
        );
        assert_eq!(
            read("1.0", "Transfer-Encoding: gzip\r\n"),
            Err(CodingInHttp10)
        );
        let both = "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n";
        assert_eq!(read("1.0", both), Err(LengthAndCoding));
    }
}

#[test]
fn refusals_close_with_400_and_unknown_codings_with_501() {
    for (bad, status) in [
        (BadFraming::LengthAndCoding, 400),
        (BadFraming::LengthRepeated, 400),
        (BadFraming::LengthInvalid, 400),
        (BadFraming::CodingInHttp10, 400),
        (BadFraming::CodingUnsupported, 501),
    ] {
        assert_eq!(BadRequest::Framing(bad).status(), status);
        assert_eq!(BadRequest::Framing(bad).message(), bad.message());
    }
}

#[test]
fn a_length_is_counted_down_and_what_follows_is_left() {
    let mut body = BodyTracker::new(Framing::Length(5));
    assert_eq!(body.remaining_hint(), Some(5));
    assert_eq!(
        body.take(b"abc"),
        Ok(Progress {
            consumed: 3,
            done: false
        })
    );
    assert!(!body.done() && !body.done_at_close());
    assert_eq!(body.remaining_hint(), Some(2));
    assert_eq!(
        body.take(b"deGET /"),
        Ok(Progress {
            consumed: 2,
            done: true
        })
    );
    assert!(body.done() && body.done_at_close());
    assert_eq!(
        body.take(b"GET /"),
        Ok(Progress {
            consumed: 0,
            done: true
        })
    );
}

#[test]
fn no_body_is_done_before_it_begins() {
    for framing in [Framing::None, Framing::Length(0)] {
        let mut body = BodyTracker::new(framing);
        assert!(body.done());
        assert_eq!(
            body.take(b"next"),
            Ok(Progress {
                consumed: 0,
                done: true
            })
        );
    }
}

#[test]
fn a_body_until_close_takes_everything_and_is_whole_at_close() {
    let mut body = BodyTracker::new(Framing::UntilClose);
    assert_eq!(
        body.take(b"abc"),
        Ok(Progress {
            consumed: 3,
            done: false
        })
    );
    assert!(!body.done() && body.done_at_close());
    assert_eq!(body.remaining_hint(), None);
}

#[test]
fn a_body_without_chunks_is_content_as_a_whole() {
    for (framing, content) in [
        (Framing::None, ""),
        (Framing::Length(2), "ab"),
        (Framing::Length(9), "abcd"),
        (Framing::UntilClose, "abcd"),
    ] {
        let mut body = String::new();
        BodyTracker::new(framing)
            .decode(b"abcd", |range| body += &"abcd"[range])
            .unwrap();
        assert_eq!(body, content, "{framing:?}");
    }
}

#[test]
fn a_chunked_body_is_followed_and_can_be_stripped_of_its_chunks() {
    let wire = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nHTTP/1.1";
    let mut body = BodyTracker::new(Framing::Chunked);
    let mut content = Vec::new();
    let progress = body.decode(wire, |range| content.extend_from_slice(&wire[range]));
    assert_eq!(
        progress,
        Ok(Progress {
            consumed: wire.len() - 8,
            done: true
        })
    );
    assert_eq!(content, b"abcde");
    assert_eq!(body.remaining_hint(), Some(0));

    let mut cut = BodyTracker::new(Framing::Chunked);
    assert_eq!(
        cut.take(b"3\r\nab"),
        Ok(Progress {
            consumed: 5,
            done: false
        })
    );
    assert!(!cut.done_at_close());
    assert_eq!(cut.remaining_hint(), None);
    assert!(cut.take(b"cX").is_err());
}
