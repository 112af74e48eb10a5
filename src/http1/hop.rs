//! Which header lines concern only this hop (RFC 9110 7.6.1), and what `Connection` says.
//!
//! Each name is looked at once, while the head is parsed: its length chooses one candidate, two or
//! none, and comparing with one costs a few instructions.

use super::fields::Fields;
use crate::caseless::is;

/// Most options a `Connection` field may list. Clients send one or two; each is compared with
/// every field of the head, so the product has to be bounded.
const CONNECTION_OPTIONS_MAX: usize = 16;

/// What a header line means to whoever relays it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Role {
    /// For the other end: relayed as it is.
    #[default]
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
    /// `weir-pass`: what shows that the connection is another node's.
    NodePass,
    /// `X-Request-Id`: what the client calls this request. Relayed as it is.
    RequestId,
    /// `weir-request-id`: what another node calls a request whose client gave it no name.
    NodeRequestId,
    /// `Content_Length` and `Transfer_Encoding`: an upstream that hands fields on as environment
    /// variables takes them for the fields that frame (RFC 3875 4.1.18).
    FramingLookAlike,
}

impl Role {
    /// The role a field has by its name.
    #[inline(always)]
    pub(super) fn of(name: &[u8]) -> Self {
        match name.len() {
            2 if is(name, b"te") => Self::HopByHop,
            4 if is(name, b"host") => Self::Host,
            6 if is(name, b"expect") => Self::Expect,
            7 if is(name, b"trailer") || is(name, b"upgrade") => Self::HopByHop,
            9 if is(name, b"weir-pass") => Self::NodePass,
            10 if is(name, b"connection") => Self::Connection,
            10 if is(name, b"keep-alive") => Self::HopByHop,
            12 if is(name, b"x-request-id") => Self::RequestId,
            13 if is(name, b"authorization") => Self::Authorization,
            14 if is(name, b"content-length") => Self::ContentLength,
            14 if is(name, b"http2-settings") => Self::HopByHop,
            14 if looks_like(name, b"content-length") => Self::FramingLookAlike,
            14 if is(name, b"nirn-routed-to") => Self::RoutedTo,
            15 if is(name, b"weir-request-id") => Self::NodeRequestId,
            16 if is(name, b"proxy-connection") => Self::HopByHop,
            17 if is(name, b"transfer-encoding") => Self::TransferEncoding,
            17 if looks_like(name, b"transfer-encoding") => Self::FramingLookAlike,
            18 if is(name, b"proxy-authenticate") => Self::HopByHop,
            19 if is(name, b"proxy-authorization") => Self::HopByHop,
            23 if is(name, b"x-ratelimit-abort-after") => Self::AbortAfter,
            25 if is(name, b"proxy-authentication-info") => Self::HopByHop,
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
            if is(option, b"close") {
                options.close = true;
            } else if is(option, b"keep-alive") {
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
        | Role::NodePass
        | Role::NodeRequestId
        | Role::FramingLookAlike => false,
        Role::EndToEnd | Role::RequestId => {
            for at in 0..fields.len() {
                if fields.name(at).eq_ignore_ascii_case(option) {
                    fields.cut(at);
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
            ("Weir-Pass", Role::NodePass),
            ("Weir_Pass", Role::EndToEnd),
            ("X-Request-ID", Role::RequestId),
            ("Content-Type", Role::EndToEnd),
            ("Weir-Request-Id", Role::NodeRequestId),
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
