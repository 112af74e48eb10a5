//! From the raw request target to the segments that a route is made of.
//!
//! Nothing is decoded, copied or normalised: the bytes go upstream as they came, so they are read
//! as they came. `..` is a segment like any other, `%31` is not `1`. An empty segment (`//`, or a
//! slash at the end) is skipped, because it names nothing.

/// The segments of `target` after `/api/v{N}/` or `/api/`, up to query or fragment; `None` when the
/// path is not one of the API.
///
/// The absolute form (`http://host/api/…`, RFC 9112 3.2.2) is read as its path.
pub(super) fn api_segments(target: &[u8]) -> Option<Segments<'_>> {
    let rest = origin_form(target).strip_prefix(b"/api")?;
    if rest
        .first()
        .is_some_and(|&b| BYTES[usize::from(b)] & END == 0)
    {
        // `/apiary` is not `/api`.
        return None;
    }
    let mut segments = Segments { rest };
    let all = segments.clone();
    match segments.next() {
        Some(Segment {
            bytes: [b'v', version @ ..],
            ..
        }) if is_digits(version) => Some(segments),
        _ => Some(all),
    }
}

/// What is known of a segment after one look at each of its bytes.
#[derive(Clone, Copy)]
pub(super) struct Segment<'t> {
    pub(super) bytes: &'t [u8],
    /// Whether it is a number, as every id of Discord is.
    pub(super) is_id: bool,
    /// Whether it is printable ASCII throughout.
    pub(super) is_graphic: bool,
}

/// The non-empty segments of a path, in order, up to query or fragment.
#[derive(Clone)]
pub(super) struct Segments<'t> {
    rest: &'t [u8],
}

impl<'t> Iterator for Segments<'t> {
    type Item = Segment<'t>;

    fn next(&mut self) -> Option<Segment<'t>> {
        loop {
            let mut common = DIGIT | GRAPHIC;
            let mut end = self.rest.len();
            for (at, &byte) in self.rest.iter().enumerate() {
                let kind = BYTES[usize::from(byte)];
                if kind & END != 0 {
                    end = at;
                    break;
                }
                common &= kind;
            }
            let (bytes, behind) = self.rest.split_at(end);
            // Only a slash goes on; at a query or a fragment the path ends.
            self.rest = match behind {
                [b'/', rest @ ..] => rest,
                _ => b"",
            };
            if !bytes.is_empty() {
                let (is_id, is_graphic) = (common & DIGIT != 0, common & GRAPHIC != 0);
                return Some(Segment {
                    bytes,
                    is_id,
                    is_graphic,
                });
            }
            if self.rest.is_empty() {
                return None;
            }
        }
    }
}

/// The byte is a decimal digit.
const DIGIT: u8 = 1;
/// The byte is printable ASCII.
const GRAPHIC: u8 = 2;
/// The byte ends a segment.
const END: u8 = 4;

/// What each byte is, so that a path is read with one look-up a byte.
const BYTES: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_digit() {
            kinds[byte] |= DIGIT;
        }
        if b.is_ascii_graphic() {
            kinds[byte] |= GRAPHIC;
        }
        if matches!(b, b'/' | b'?' | b'#') {
            kinds[byte] |= END;
        }
        byte += 1;
    }
    kinds
};

/// Whether `segment` is a number. Empty is not.
fn is_digits(segment: &[u8]) -> bool {
    !segment.is_empty() && segment.iter().all(u8::is_ascii_digit)
}

/// The number that `digits` writes, `None` if it is not one or exceeds a `u64`.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    /// So many digits are a number that 64 bits hold, whichever they are.
    const SAFE_DIGITS: usize = 19;
    let (safe, rest) = digits.split_at(digits.len().min(SAFE_DIGITS));
    let digit = |byte: u8| Some(byte.wrapping_sub(b'0')).filter(|&digit| digit <= 9);
    let mut number = 0_u64;
    for &byte in safe {
        number = number * 10 + u64::from(digit(byte)?);
    }
    for &byte in rest {
        number = number.checked_mul(10)?.checked_add(digit(byte)?.into())?;
    }
    (!digits.is_empty()).then_some(number)
}

fn origin_form(target: &[u8]) -> &[u8] {
    if target.first() == Some(&b'/') {
        return target;
    }
    for scheme in [&b"http://"[..], b"https://"] {
        if target
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        {
            let authority = &target[scheme.len()..];
            let end = authority
                .iter()
                .position(|b| BYTES[usize::from(*b)] & END != 0);
            return &authority[end.unwrap_or(authority.len())..];
        }
    }
    b""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(target: &str) -> Option<Vec<&str>> {
        let segments = api_segments(target.as_bytes())?;
        Some(
            segments
                .map(|s| std::str::from_utf8(s.bytes).unwrap())
                .collect(),
        )
    }

    #[test]
    fn prefix_version_query_and_empty_segments_are_left_out() {
        for target in [
            "/api/v10/channels/1",
            "/api/channels/1",
            "/api/v9/channels/1/?a=/b",
            "/api//v10//channels///1//",
            "/api/v10/channels/1#x",
            "http://discord.com/api/v10/channels/1?x",
            "HTTPS://user@discord.com:443/api/channels/1",
        ] {
            assert_eq!(parts(target), Some(vec!["channels", "1"]), "{target}");
        }
        assert_eq!(parts("/api"), Some(vec![]));
        assert_eq!(parts("/api/v10"), Some(vec![]));
        assert_eq!(parts("/api/vX/a"), Some(vec!["vX", "a"]));
        assert_eq!(parts("/api/v/a"), Some(vec!["v", "a"]));
    }

    #[test]
    fn a_path_that_is_not_the_apis_is_told_apart() {
        for target in [
            "",
            "/",
            "*",
            "/apiary/v1",
            "/channels/1",
            "/x/api/v10",
            "http://h",
            "//api",
            "ftp://h/api",
        ] {
            assert_eq!(parts(target), None, "{target}");
        }
    }

    #[test]
    fn each_segment_says_what_it_is_made_of() {
        let all: Vec<_> = api_segments(b"/api/12/1a/\xff/a b").unwrap().collect();
        let kinds: Vec<_> = all.iter().map(|s| (s.is_id, s.is_graphic)).collect();
        assert_eq!(
            kinds,
            [(true, true), (false, true), (false, false), (false, false)]
        );
    }

    #[test]
    fn a_number_is_digits_that_fit_64_bits() {
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(number(b""), None);
        assert_eq!(number(b"-1"), None);
    }
}
