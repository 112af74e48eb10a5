use proptest::prelude::*;

use super::super::fields::Fields;
use super::super::{HEAD_BYTES_MAX, Method, parse_request, parse_response};
use super::*;

/// What a reader makes of some bytes: names and values of a whole head, and where it ends.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Read<'b> {
    Whole(Vec<(&'b [u8], &'b [u8])>, usize),
    Partial,
    Refused,
}

fn ours(buf: &[u8]) -> Read<'_> {
    let mut places = Places::default();
    match read(buf, 0, &mut places) {
        Parse::Complete(len) => {
            let fields = Fields::new(&buf[..len], places);
            Read::Whole(fields.iter().collect(), len)
        }
        Parse::Partial => Read::Partial,
        Parse::Invalid(_) => Read::Refused,
    }
}

fn theirs(buf: &[u8]) -> Read<'_> {
    let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(buf, &mut slots) {
        Ok(httparse::Status::Complete((len, headers))) => {
            let pairs = headers
                .iter()
                .map(|line| (line.name.as_bytes(), line.value));
            Read::Whole(pairs.collect(), len)
        }
        Ok(httparse::Status::Partial) => Read::Partial,
        Err(_) => Read::Refused,
    }
}

/// Whether a line ends in LF alone, which httparse allows.
fn has_bare_line_feed(bytes: &[u8]) -> bool {
    let mut before = None;
    bytes.iter().any(|&byte| {
        byte == b'\n' && before.replace(byte) != Some(b'\r') || {
            before = Some(byte);
            false
        }
    })
}

/// Both say the same, but for bare line feeds.
fn check_lines(buf: &[u8]) {
    let theirs = theirs(buf);
    let seen = match &theirs {
        Read::Whole(_, len) => &buf[..*len],
        Read::Partial | Read::Refused => buf,
    };
    let expected = if has_bare_line_feed(seen) {
        Read::Refused
    } else {
        theirs
    };
    assert_eq!(ours(buf), expected, "{}", buf.escape_ascii());
}

/// The same of whole requests and answers: what is accepted here is accepted there, and read alike.
fn check_heads(buf: &[u8]) {
    if let Parse::Complete(head) = parse_request(buf) {
        let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut theirs = httparse::Request::new(&mut slots);
        let len = theirs.parse(buf).unwrap().unwrap();
        assert_eq!(head.len, len);
        assert_eq!(head.method_bytes, theirs.method.unwrap().as_bytes());
        assert!(theirs.path.unwrap().as_bytes().ends_with(head.target) || head.target.len() < 2);
        assert_eq!(head.version == Version::Http11, theirs.version == Some(1));
        assert_eq!(head.fields.len(), theirs.headers.len());
    }
    if let Parse::Complete(head) = parse_response(buf, Method::Get) {
        let mut slots = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut theirs = httparse::Response::new(&mut slots);
        let len = theirs.parse(buf).unwrap().unwrap();
        assert_eq!((head.len, Some(head.status)), (len, theirs.code));
        assert_eq!(head.version == Version::Http11, theirs.version == Some(1));
        assert_eq!(head.fields.len(), theirs.headers.len());
    }
}

/// What heads are made of, and what breaks them.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let sound = prop::sample::select(vec![
        "Host: h\r\n",
        "X_y.z~: a\tb \r\n",
        "content-type:application/json\r\n",
        "Set-Cookie: \t __cfruid=0123456789abcdef0123456789abcdef-1767225600; path=/; Secure\r\n",
        "Empty:\r\n",
        "Blank: \t \r\n",
        "X-Long-Name-That-Does-Not-End-In-One-Go: 1\r\n",
        "\r\n",
    ]);
    let byte = prop_oneof![
        prop::sample::select(&b"\r\n\t :a\0\x7f\x1f\"@\x80"[..]),
        any::<u8>()
    ];
    prop_oneof![
        12 => sound.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(byte, 0..20),
    ]
}

/// Pieces, of which perhaps one byte is another.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let change = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
    (prop::collection::vec(piece(), 0..8), change).prop_map(|(pieces, change)| {
        let mut wire = pieces.concat();
        if let Some((at, byte)) = change
            && !wire.is_empty()
        {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        wire
    })
}

const STARTS: [&str; 6] = [
    "GET /a?b HTTP/1.1\r\nHost: h\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 404\r\n",
    "GET / HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.0\r\n",
    "PUT /a\u{e9} HTTP/1.1\r\nHost: h\r\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn lines_are_read_as_httparse_reads_them_but_for_bare_line_feeds(wire in wire()) {
        check_lines(&wire);
        for end in 0..wire.len() {
            check_lines(&wire[..end]);
        }
    }

    #[test]
    fn no_head_is_accepted_that_httparse_would_not_take(
        start in prop::sample::select(&STARTS[..]),
        wire in wire(),
        change in prop::option::of((0_usize..16, any::<u8>())),
    ) {
        let mut head = [start.as_bytes(), &wire, b"\r\n"].concat();
        if let Some((at, byte)) = change {
            head[at] = byte;
        }
        check_heads(&head);
    }
}

#[test]
fn every_byte_in_every_place_of_a_line_is_read_as_httparse_reads_it() {
    let line = b"X-Name: 0123456789abcdef 0123456789\r\n\r\n";
    for at in 0..line.len() {
        for byte in 0..=u8::MAX {
            let mut line = *line;
            line[at] = byte;
            check_lines(&line);
        }
    }
}

#[test]
fn every_byte_in_every_place_of_a_first_line_is_refused_if_httparse_refuses_it() {
    for start in [
        "PATCH /api/v10/users HTTP/1.1\r\nHost: h\r\n\r\n",
        "HTTP/1.1 200 All is well\r\n\r\n",
    ] {
        assert!(start.len() < HEAD_BYTES_MAX);
        for at in 0..start.len() {
            for byte in 0..=u8::MAX {
                let mut head = start.as_bytes().to_vec();
                head[at] = byte;
                check_heads(&head);
            }
        }
    }
}

#[test]
fn control_bytes_are_marked_and_no_others_before_them() {
    for byte in 0..=u8::MAX {
        for at in 0..8 {
            // Neighbours from which a borrow would go astray.
            for around in [b' ', b'!', 0x80, 0x9f, 0xff, b'~'] {
                let mut word = [around; 8];
                word[at] = byte;
                let marks = mark_controls(u64::from_le_bytes(word));
                let found = (marks != 0).then(|| marks.trailing_zeros() as usize / 8);
                assert_eq!(
                    found,
                    byte.is_ascii_control().then_some(at),
                    "{byte} {around}"
                );
            }
        }
    }
}
