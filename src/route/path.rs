//! From the raw request target to the segments that a route is made of.
//!
//! Nothing is decoded, copied or normalised: the bytes go upstream as they came, so they are read
//! as they came. `..` is a segment like any other, `%31` is not `1`. An empty segment (`//`, or a
//! slash at the end) is skipped, because it names nothing.

/// The part of `target` after `/api/v{N}/` or `/api/`, without query and fragment; `None` when the
/// path is not one of the API.
///
/// The absolute form (`http://host/api/…`, RFC 9112 3.2.2) is read as its path.
pub(super) fn api_path(target: &[u8]) -> Option<&[u8]> {
    let path = until(origin_form(target), |b| b == b'?' || b == b'#');
    let rest = segment_tail(path.strip_prefix(b"/api")?)?;
    let (first, after) = split_first(rest);
    match first.strip_prefix(b"v") {
        Some(version) if is_digits(version) => Some(after),
        _ => Some(rest),
    }
}

/// The non-empty segments of a path, in order.
pub(super) fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&b| b == b'/')
        .filter(|segment| !segment.is_empty())
}

/// Whether `segment` is a number, as every id of Discord is. Empty is not.
pub(super) fn is_digits(segment: &[u8]) -> bool {
    !segment.is_empty() && segment.iter().all(u8::is_ascii_digit)
}

/// The number that `digits` writes, `None` if it is not one or exceeds a `u64`.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if !is_digits(digits) {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

fn origin_form(target: &[u8]) -> &[u8] {
    if target.first() == Some(&b'/') {
        return target;
    }
    let is_scheme = |scheme: &[u8]| {
        target
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let authority = match target {
        _ if is_scheme(b"http://") => &target[b"http://".len()..],
        _ if is_scheme(b"https://") => &target[b"https://".len()..],
        _ => return b"",
    };
    &authority[until(authority, |b| b == b'/' || b == b'?').len()..]
}

/// What follows the slashes that `rest` starts with; `None` if it goes on with another byte, so
/// that `/apiary` is not taken for `/api`.
fn segment_tail(rest: &[u8]) -> Option<&[u8]> {
    match rest.first() {
        None => Some(rest),
        Some(b'/') => {
            let slashes = rest.iter().take_while(|&&b| b == b'/').count();
            Some(&rest[slashes..])
        }
        Some(_) => None,
    }
}

fn split_first(path: &[u8]) -> (&[u8], &[u8]) {
    let first = until(path, |b| b == b'/');
    (first, &path[first.len()..])
}

fn until(bytes: &[u8], stop: impl Fn(u8) -> bool) -> &[u8] {
    let end = bytes.iter().position(|&b| stop(b)).unwrap_or(bytes.len());
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(target: &str) -> Option<Vec<&str>> {
        let path = api_path(target.as_bytes())?;
        Some(
            segments(path)
                .map(|s| std::str::from_utf8(s).unwrap())
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
    fn a_number_is_digits_that_fit_64_bits() {
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(number(b""), None);
        assert_eq!(number(b"-1"), None);
    }
}
