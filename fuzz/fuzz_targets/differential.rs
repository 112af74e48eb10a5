//! What weir takes for a request, against the second opinion of another parser: nginx's, as Node.js
//! ran it for ten years (`http-parser`). It is old and lenient, as what stands before or behind a
//! proxy may be, and shares no line with weir, which has a reader of its own.
//!
//! The input is what a client sends on one connection. For each request in it, in turn:
//!
//! - If both take it, they see the same method, target, body and end: what is smuggled is what
//!   one of them sees elsewhere.
//! - What weir takes, it forwards as exactly one request, and the other parser reads that one with
//!   that body, to the last byte.
//! - What only one of them takes belongs to a class of difference that is named here, with the
//!   reason: [`refused_by_weir`] and [`refused_by_the_other`]. Any other is a finding.

#![no_main]

use http_muncher::{Parser, ParserHandler};
use libfuzzer_sys::fuzz_target;
use weir::http1::{BadChunk, BadFraming, BadRequest, BodyTracker, Method, Parse, parse_request};

const HOST: &[u8] = b"discord.com";

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while !rest.is_empty() {
        match compare(rest) {
            Some(len) => rest = &rest[len..],
            None => break,
        }
    }
});

/// A request to its last byte.
#[derive(PartialEq, Eq, Debug, Default)]
struct Message {
    method: Vec<u8>,
    target: Vec<u8>,
    body: Vec<u8>,
    len: usize,
}

/// What a parser says of the start of some bytes.
enum Read<E> {
    Whole(Message),
    /// More bytes have to tell.
    Part,
    Refused(E),
}

/// Compares the first request of `bytes`; its length, if both took it and weir reads on.
fn compare(bytes: &[u8]) -> Option<usize> {
    let (ours, keep_alive) = weir(bytes);
    let other = other(bytes);
    let shown = || bytes[..bytes.len().min(2_000)].escape_ascii();
    match (ours, other) {
        (Read::Whole(mut ours), Read::Whole(theirs)) => {
            check_forwarded(bytes, &ours);
            let len = ours.len;
            // Of an absolute-form target weir forwards what follows the authority.
            if is_of_absolute(&ours.target, &theirs.target) {
                ours.target.clone_from(&theirs.target);
            }
            assert_eq!(ours, theirs, "{}", shown());
            keep_alive.then_some(len)
        }
        (Read::Whole(ours), Read::Refused(error)) => {
            check_forwarded(bytes, &ours);
            let known = refused_by_the_other(error, &ours, bytes);
            assert!(known, "{error}: {}", shown());
            None
        }
        (Read::Refused(bad), Read::Whole(theirs)) => {
            let known = refused_by_weir(&bad, &bytes[..theirs.len]);
            assert!(known, "{bad:?}: {}", shown());
            None
        }
        (Read::Whole(_), Read::Part) => panic!("it waits for more: {}", shown()),
        (Read::Part, Read::Whole(_)) => panic!("weir waits for more: {}", shown()),
        // Neither has taken it whole, and nothing was forwarded as a whole.
        (Read::Part | Read::Refused(_), Read::Part | Read::Refused(_)) => None,
    }
}

/// Whether `target` is what is forwarded of the absolute-form `whole`.
fn is_of_absolute(target: &[u8], whole: &[u8]) -> bool {
    let lower = whole.to_ascii_lowercase();
    let schemes: [&[u8]; 2] = [b"http://", b"https://"];
    let absolute = schemes.iter().any(|scheme| lower.starts_with(scheme));
    absolute && (whole.ends_with(target) || matches!(target, b"/" | b"*"))
}

/// What goes upstream is read by the other parser as this one request and nothing else.
fn check_forwarded(bytes: &[u8], ours: &Message) {
    let Parse::Complete(head) = parse_request(bytes) else {
        panic!("it was read before");
    };
    let mut sent = Vec::new();
    head.encode(HOST, &mut sent);
    sent.extend_from_slice(&bytes[head.len..ours.len]);
    let len = sent.len();
    // A reader that goes on has to find this one's method at once.
    sent.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
    match other(&sent) {
        Read::Whole(theirs) => {
            let ours = (&ours.method, &ours.target, &ours.body, len);
            let theirs = (&theirs.method, &theirs.target, &theirs.body, theirs.len);
            assert_eq!(ours, theirs, "{}", sent.escape_ascii());
        }
        Read::Refused(error) => {
            let known = refused_by_the_other(error, ours, &sent);
            assert!(known, "{error}: {}", sent.escape_ascii());
        }
        Read::Part => panic!("it waits for more: {}", sent.escape_ascii()),
    }
}

/// Classes of requests that weir forwards and the other parser does not read at all: none of them
/// can be read in two ways.
fn refused_by_the_other(error: &str, ours: &Message, bytes: &[u8]) -> bool {
    match error {
        // It has a fixed list of methods; weir relays any token.
        "HPE_INVALID_METHOD" => Method::from_bytes(&ours.method) == Method::Other,
        // A target is opaque to weir but for its form: what is in it is between client and Discord.
        "HPE_INVALID_URL" => true,
        // Behind a length it takes blanks, and no tab among them. Weir forwards the length without.
        "HPE_INVALID_CONTENT_LENGTH" => {
            let lines = bytes.split(|&byte| byte == b'\n');
            let lines = lines.skip_while(|line| *line == b"\r");
            let mut lines = lines.take_while(|line| *line != b"\r");
            let length = |line: &&[u8]| line.to_ascii_lowercase().starts_with(b"content-length:");
            lines.find(length).is_some_and(|line| {
                let digit = line.iter().rposition(u8::is_ascii_digit);
                digit.is_some_and(|digit| line[digit..].contains(&b'\t'))
            })
        }
        _ => false,
    }
}

/// Why weir refuses a request.
#[derive(Debug)]
enum Bad {
    Head(BadRequest),
    Body(BadChunk),
}

/// Classes of requests that the other parser takes and weir refuses, each because there are
/// readers that would see another request, or because nobody means it.
fn refused_by_weir(bad: &Bad, message: &[u8]) -> bool {
    let start = message.iter().position(|byte| !b"\r\n".contains(byte));
    let (empty_lines, message) = message.split_at(start.unwrap_or_default());
    let blank = |end: &[u8]| {
        let at = message.windows(end.len()).position(|found| found == end);
        at.map_or(message.len(), |at| at + end.len())
    };
    let head = &message[..blank(b"\n\r\n").min(blank(b"\n\n"))];
    // Before a request it skips any of these bytes.
    let odd_start = !empty_lines.chunks(2).all(|line| line == b"\r\n");
    match bad {
        // Limits of size: the other parser's are wider, or it has none.
        Bad::Head(
            BadRequest::HeadTooLarge
            | BadRequest::TooManyHeaders
            | BadRequest::TargetTooLong
            | BadRequest::EmptyLines,
        )
        | Bad::Body(BadChunk::LineTooLong | BadChunk::TrailersTooLong) => true,
        // HTTP/1.10 and HTTP/2.0 are taken for versions like any other.
        Bad::Head(BadRequest::Version) => true,
        // It tunnels; weir is no forward proxy.
        Bad::Head(BadRequest::Method) => head.starts_with(b"CONNECT"),
        // Whose request it is has to be certain, and the other parser does not ask.
        Bad::Head(
            BadRequest::Target
            | BadRequest::HostMissing
            | BadRequest::HostRepeated
            | BadRequest::HostInvalid
            | BadRequest::AuthorizationRepeated
            | BadRequest::Connection,
        ) => true,
        // Whether a body comes has to be certain, too; the other parser looks at no expectation.
        Bad::Head(BadRequest::Expectation) => true,
        // Two framings, or one that readers understand in two ways (RFC 9112 6.3).
        Bad::Head(BadRequest::Framing(
            BadFraming::LengthAndCoding
            | BadFraming::LengthRepeated
            | BadFraming::LengthInvalid
            | BadFraming::CodingUnsupported
            | BadFraming::CodingInHttp10
            | BadFraming::LookAlike,
        )) => true,
        // It takes LF for a line end (RFC 9112 2.2 lets a reader do so).
        Bad::Head(BadRequest::LineEnding) => odd_start || bare_line_feed(head),
        Bad::Head(BadRequest::Malformed) => odd_start || bare_line_feed(head) || malformed(head),
        // It takes blanks behind a size, and any bytes but CR in what follows; sizes of 64 bits.
        Bad::Body(
            BadChunk::Size | BadChunk::SizeTooLarge | BadChunk::Extension | BadChunk::LineEnding,
        ) => true,
        // It reads trailers as headers, and those as any.
        Bad::Body(BadChunk::Trailer | BadChunk::TrailerForbidden) => true,
    }
}

fn bare_line_feed(head: &[u8]) -> bool {
    let before = |at: usize| at.checked_sub(1).map(|at| head[at]);
    let bare = |(at, &byte): (usize, &u8)| byte == b'\n' && before(at) != Some(b'\r');
    head.iter().enumerate().any(bare)
}

/// What the other parser takes against the grammar of RFC 9112, and weir does not.
fn malformed(head: &[u8]) -> bool {
    let mut lines = head.split(|&byte| byte == b'\n');
    let first = lines.next().unwrap_or_default();
    // A request line of other than three words with one blank between them: HTTP/0.9 has no
    // version, and there is room for a second target between two blanks, or for none: behind CONNECT
    // it takes an empty one.
    let words = || first.split(|&byte| byte == b' ');
    let odd_line = words().count() != 3 || words().any(<[u8]>::is_empty);
    // HTTP/1.10, HTTP/01.1.
    let odd_version = !first.ends_with(b" HTTP/1.0\r") && !first.ends_with(b" HTTP/1.1\r");
    // obs-fold, which RFC 9112 5.2 has refused or unfolded.
    let folded = lines.any(|line| line.starts_with(b" ") || line.starts_with(b"\t"));
    // Control bytes in a value, of which some readers make blanks and others ends (RFC 9110 5.5).
    let in_text = |byte: &u8| byte.is_ascii_control() && !b"\t\r\n".contains(byte);
    odd_line || odd_version || folded || head.iter().any(in_text)
}

fn weir(bytes: &[u8]) -> (Read<Bad>, bool) {
    let head = match parse_request(bytes) {
        Parse::Complete(head) => head,
        Parse::Partial => return (Read::Part, false),
        Parse::Invalid(bad) => return (Read::Refused(Bad::Head(bad)), false),
    };
    let mut tracker = BodyTracker::new(head.framing);
    let rest = &bytes[head.len..];
    let mut body = Vec::new();
    match tracker.decode(rest, |range| body.extend_from_slice(&rest[range])) {
        Ok(progress) if progress.done => {
            let message = Message {
                method: head.method_bytes.to_vec(),
                target: head.target.to_vec(),
                body,
                len: head.len + progress.consumed,
            };
            (Read::Whole(message), head.keep_alive)
        }
        Ok(_) => (Read::Part, false),
        Err(bad) => (Read::Refused(Bad::Body(bad)), false),
    }
}

#[derive(Default)]
struct Handler {
    message: Message,
    whole: bool,
}

impl ParserHandler for Handler {
    fn on_url(&mut self, _: &mut Parser, part: &[u8]) -> bool {
        self.message.target.extend_from_slice(part);
        true
    }

    fn on_body(&mut self, _: &mut Parser, part: &[u8]) -> bool {
        self.message.body.extend_from_slice(part);
        true
    }

    fn on_message_complete(&mut self, _: &mut Parser) -> bool {
        self.whole = true;
        // It stops here, behind the last byte.
        false
    }
}

fn other(bytes: &[u8]) -> Read<&'static str> {
    let mut parser = Parser::request();
    let mut handler = Handler::default();
    let len = parser.parse(&mut handler, bytes);
    if handler.whole {
        let Handler { mut message, .. } = handler;
        message.method = parser.http_method().into();
        message.len = len;
        Read::Whole(message)
    } else if parser.has_error() {
        Read::Refused(parser.error())
    } else {
        Read::Part
    }
}
