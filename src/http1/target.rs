//! The forms of a request target (RFC 9112 3.2), and what is taken for an authority.
//!
//! Path and query are opaque here: which bytes Discord sees in them is between the client and
//! Discord. Only what two readers would cut in two ways is refused.

use super::Method;

/// The authority, of an absolute-form target only, and path and query; `None` if `target` is
/// nothing that weir serves.
pub(super) fn split_target(method: Method, target: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    // A fragment is never sent; readers differ on whether it belongs to the path.
    // Without leaving early, so that all bytes are looked at in one go.
    if target.iter().fold(false, |any, &byte| any | (byte == b'#')) {
        return None;
    }
    match target {
        [b'/', ..] => return Some((None, target)),
        b"*" if method == Method::Options => return Some((None, target)),
        _ => {}
    }
    let rest = strip_scheme(target)?;
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || !is_authority(authority) {
        return None;
    }
    match path.first() {
        Some(b'/') => Some((Some(authority), path)),
        // An empty path stands for the server itself (RFC 9112 3.2.4) or for its root.
        None if method == Method::Options => Some((Some(authority), b"*")),
        None => Some((Some(authority), b"/")),
        // A query on an empty path: allowed by RFC 3986, sent by nobody.
        Some(_) => None,
    }
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"]
        .into_iter()
        .find_map(|scheme| {
            let (start, rest) = target.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(rest)
        })
}

/// Whether these bytes can be `host[:port]`: no blanks, no user, nothing of a path, no list.
pub(super) fn is_authority(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| IN_AUTHORITY[usize::from(byte)])
}

const IN_AUTHORITY: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(
                byte as u8,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'%'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b';'
                    | b'='
                    | b':'
                    | b'['
                    | b']'
            );
        byte += 1;
    }
    table
};
