//! Which header lines concern only this hop (RFC 9110 7.6.1), and what `Connection` says.
//!
//! Each name is looked at once, while the head is parsed: its length and first byte choose one
//! candidate or none, so the usual field costs one comparison at most.

use super::fields::Fields;

/// Most options a `Connection` field may list. Clients send one or two; each is compared with
/// every field of the head, so the product has to be bounded.
const CONNECTION_OPTIONS_MAX: usize = 16;

/// What a header line means to whoever relays it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// For the other end: relayed as it is.
    EndToEnd,
    /// `Host`
    Host,
    /// `Authorization`
    Authorization,
    /// `Content-Length`
    ContentLength,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Connection`
    Connection,
    /// `Expect`
    Expect,
    /// Any other line that ends here, by its name or because `Connection` names it.
    HopByHop,
    /// `X-RateLimit-Abort-After`: the longest wait this client accepts, for weir alone.
    AbortAfter,
    /// `nirn-routed-to`: another node of the cluster has routed this request here.
    RoutedTo,
    /// `Content_Length` and `Transfer_Encoding`: an upstream that hands fields on as environment
    /// variables takes them for the fields that frame (RFC 3875 4.1.18).
    FramingLookAlike,
}

impl Role {
    /// The role a field has by its name.
    pub(super) fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else {
            return Self::EndToEnd;
        };
        let (candidate, role): (&[u8], Self) = match (name.len(), first | 0x20) {
            (2, b't') => (b"te", Self::HopByHop),
            (4, b'h') => (b"host", Self::Host),
            (6, b'e') => (b"expect", Self::Expect),
            (7, b't') => (b"trailer", Self::HopByHop),
            (7, b'u') => (b"upgrade", Self::HopByHop),
            (10, b'c') => (b"connection", Self::Connection),
            (10, b'k') => (b"keep-alive", Self::HopByHop),
            (13, b'a') => (b"authorization", Self::Authorization),
            (14, b'c') => (b"content-length", Self::ContentLength),
            (14, b'h') => (b"http2-settings", Self::HopByHop),
            (14, b'n') => (b"nirn-routed-to", Self::RoutedTo),
            (16, b'p') => (b"proxy-connection", Self::HopByHop),
            (17, b't') => (b"transfer-encoding", Self::TransferEncoding),
            (18, b'p') => (b"proxy-authenticate", Self::HopByHop),
            (19, b'p') => (b"proxy-authorization", Self::HopByHop),
            (23, b'x') => (b"x-ratelimit-abort-after", Self::AbortAfter),
            (25, b'p') => (b"proxy-authentication-info", Self::HopByHop),
            _ => return Self::EndToEnd,
        };
        if name.eq_ignore_ascii_case(candidate) {
            return role;
        }
        match role {
            Self::ContentLength | Self::TransferEncoding if looks_like(name, candidate) => {
                Self::FramingLookAlike
            }
            _ => Self::EndToEnd,
        }
    }
}

/// Whether `name` is `candidate`, in lower case, to a reader that takes `_` for `-`.
fn looks_like(name: &[u8], candidate: &[u8]) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    let name = name.iter().map(|&byte| dashed(byte.to_ascii_lowercase()));
    name.eq(candidate.iter().copied())
}

/// What the `Connection` lines of a head say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct ConnectionOptions {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    /// A field that no hop may take away was named (`Host`, `Content-Length`, `Authorization`),
    /// or more than [`CONNECTION_OPTIONS_MAX`] options.
    pub(super) invalid: bool,
}

/// Reads the `Connection` lines and gives [`Role::HopByHop`] to every field they name.
pub(super) fn apply_connection(fields: &mut Fields<'_>) -> ConnectionOptions {
    let mut options = ConnectionOptions::default();
    let (mut count, mut from) = (0, 0);
    while let Some(at) = fields.find(Role::Connection, from) {
        from = at + 1;
        for option in fields.value(at).split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            if option.is_empty() {
                continue;
            }
            count += 1;
            if count > CONNECTION_OPTIONS_MAX {
                options.invalid = true;
                return options;
            }
            if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else {
                options.invalid |= cut(fields, option);
            }
        }
    }
    options
}

/// Makes the fields called `option` hop-by-hop; true if that name must not be taken away.
fn cut(fields: &mut Fields<'_>, option: &[u8]) -> bool {
    match Role::of(option) {
        // Framing and identity were read from these: whoever removes them sends another message
        // than the one that was judged.
        Role::Host | Role::ContentLength | Role::Authorization => true,
        // Ends here or is written anew, whether it is named or not.
        Role::TransferEncoding
        | Role::Connection
        | Role::Expect
        | Role::HopByHop
        | Role::AbortAfter
        | Role::RoutedTo
        | Role::FramingLookAlike => false,
        Role::EndToEnd => {
            for at in 0..fields.len() {
                if fields.name(at).eq_ignore_ascii_case(option) {
                    fields.set_role(at, Role::HopByHop);
                }
            }
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_in_any_case_and_only_when_whole() {
        for (name, role) in [
            ("Host", Role::Host),
            ("AUTHORIZATION", Role::Authorization),
            ("content-length", Role::ContentLength),
            ("Transfer-ENCODING", Role::TransferEncoding),
            ("Connection", Role::Connection),
            ("Expect", Role::Expect),
            ("Keep-Alive", Role::HopByHop),
            ("Proxy-Connection", Role::HopByHop),
            ("Proxy-Authenticate", Role::HopByHop),
            ("Proxy-Authorization", Role::HopByHop),
            ("Proxy-Authentication-Info", Role::HopByHop),
            ("TE", Role::HopByHop),
            ("Trailer", Role::HopByHop),
            ("Upgrade", Role::HopByHop),
            ("X-RateLimit-Abort-After", Role::AbortAfter),
            ("Nirn-Routed-To", Role::RoutedTo),
            ("Hose", Role::EndToEnd),
            ("Content-Lengths", Role::EndToEnd),
            ("Content-Lengt", Role::EndToEnd),
            ("Content_Length", Role::FramingLookAlike),
            ("TRANSFER_ENCODING", Role::FramingLookAlike),
            ("Content.Length", Role::EndToEnd),
            ("Keep_Alive", Role::EndToEnd),
            ("HTTP2-Settings", Role::HopByHop),
            ("Proxy-Status", Role::EndToEnd),
            ("X-RateLimit-Reset-After", Role::EndToEnd),
            ("", Role::EndToEnd),
        ] {
            assert_eq!(Role::of(name.as_bytes()), role, "{name}");
        }
    }
}
