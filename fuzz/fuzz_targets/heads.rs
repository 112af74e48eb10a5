//! What holds for heads in both directions, and an obvious model of which lines a relay cuts out.

use weir::http1::{HEADERS_MAX, Parse, may_complete};

/// A header line: name and value.
pub(crate) type Line<'b> = (&'b [u8], &'b [u8]);

/// Bytes that an encoded head may have beyond those that arrived, our `Host` included. Heads closer
/// to a cap than this may exceed it once encoded; the parser on the other side is not ours.
const ENCODED_EXTRA_BYTES: usize = 128;

/// Prefixes of one input that are parsed; each costs the input's length.
const PREFIXES_MAX: usize = 96;

/// Fields that end at this hop by their name (RFC 9110 7.6.1 and the proxy fields).
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// What a parser said of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    /// The head ends here.
    Complete(usize),
    Partial,
    Invalid,
}

impl Said {
    pub(crate) fn of<T, E>(parsed: &Parse<T, E>, len: impl Fn(&T) -> usize) -> Self {
        match parsed {
            Parse::Complete(head) => Self::Complete(len(head)),
            Parse::Partial => Self::Partial,
            Parse::Invalid(_) => Self::Invalid,
        }
    }
}

/// Whatever pieces the bytes come in, the parser says the same: `Partial` until it has a verdict,
/// and then this one for good. [`may_complete`] hides no complete head.
pub(crate) fn check_prefixes(data: &[u8], parse: impl Fn(&[u8]) -> Said) {
    let whole = parse(data);
    let end = match whole {
        Said::Complete(len) => len,
        Said::Partial | Said::Invalid => data.len(),
    };
    let step = data.len() / PREFIXES_MAX + 1;
    let mut lengths: Vec<usize> = (0..data.len()).step_by(step).collect();
    lengths.extend(end.saturating_sub(6)..data.len().min(end + 3));
    lengths.sort_unstable();
    let mut last = Said::Partial;
    for len in lengths {
        let said = parse(&data[..len]);
        match whole {
            Said::Complete(end) if len >= end => assert_eq!(said, whole, "at {len}"),
            Said::Complete(_) => {
                assert_eq!(said, Said::Partial, "at {len} of {end}");
                assert!(may_complete(data, len), "a head that is not parsed");
            }
            Said::Partial => assert_eq!(said, Said::Partial, "at {len}"),
            Said::Invalid => {
                assert!(!matches!(said, Said::Complete(_)), "at {len}");
                assert!(last != Said::Invalid || said == last, "mended at {len}");
            }
        }
        last = said;
    }
}

/// Names are tokens (RFC 9110 5.1), so that each can be compared by its letters alone; values have
/// no blanks around them and nothing in them that another reader could take for a line's end.
pub(crate) fn check_lines<'b>(lines: impl Iterator<Item = Line<'b>>) {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    for (name, value) in lines {
        assert!(!name.is_empty() && name.iter().all(token), "{name:?}");
        assert_eq!(value, value.trim_ascii(), "blanks");
        let control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        assert!(!value.iter().any(control), "{}", value.escape_ascii());
    }
}

/// Whether a head of so many lines and bytes stays below the caps when it is encoded.
pub(crate) fn has_room(lines: usize, bytes: usize) -> bool {
    lines < HEADERS_MAX && bytes + ENCODED_EXTRA_BYTES < weir::http1::HEAD_BYTES_MAX
}

/// Whether a field of this name is cut out, because of its name or because a `Connection` line
/// among `all` names it.
pub(crate) fn is_cut(name: &[u8], all: &[Line<'_>]) -> bool {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    let named = || {
        all.iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"))
            .flat_map(|(_, value)| value.split(|&byte| byte == b','))
            .any(|option| is(option.trim_ascii()))
    };
    // `close` is an option, not a field; the framing is written anew whoever names it.
    HOP_BY_HOP.iter().any(|known| is(known.as_bytes()))
        || !is(b"close") && !is(b"transfer-encoding") && named()
}
