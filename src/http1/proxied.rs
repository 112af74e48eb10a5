//! Requests to a forward proxy: `CONNECT` with an authority, everything else with an `http` URL
//! (RFC 9112 3.2.2, 3.2.3).
//!
//! Read by the same rules as any other request; beyond them the target has to say where to.

use super::encode::{Edit, copy_lines, push_line};
use super::fields::Fields;
use super::framing::{self, Framing};
use super::hop::{self, Role};
use super::request::read_lines;
use super::target::is_authority;
use super::{
    BadRequest, HEAD_BYTES_MAX, Parse, RequestHead, TARGET_BYTES_MAX, Version, parse_request,
};
use crate::caseless;

/// What a client asks of a forward proxy.
#[derive(Debug)]
pub enum Proxied<'b> {
    /// Bytes both ways, whatever they are.
    Connect(Connect<'b>),
    /// One request, of which [`RequestHead::authority`] says where to; `None` there for one that is
    /// meant for the proxy itself.
    Request(RequestHead<'b>),
}

/// The head of a `CONNECT`.
#[derive(Debug)]
pub struct Connect<'b> {
    /// `host:port`, unread.
    pub authority: &'b [u8],
    /// The version the client speaks.
    pub version: Version,
    /// Bytes of the buffer up to the end of the blank line; the tunnel's begin there.
    pub len: usize,
    fields: Fields<'b>,
}

impl<'b> Proxied<'b> {
    /// The one `Proxy-Authorization`; `None` also for more than one. Secret.
    pub fn proxy_authorization(&self) -> Option<&'b [u8]> {
        let fields = match self {
            Self::Connect(connect) => &connect.fields,
            Self::Request(head) => &head.fields,
        };
        let mut found = fields
            .iter()
            .filter(|(name, _)| caseless::is(name, b"proxy-authorization"));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            (None | Some(_), _) => None,
        }
    }
}

/// Parses the head at the start of `buf` as [`parse_request`] does.
pub fn parse_proxied(buf: &[u8]) -> Parse<Proxied<'_>, BadRequest> {
    const CONNECT: &[u8] = b"CONNECT ";
    if !buf.starts_with(CONNECT) {
        // It may still become one; whatever else it may be is not complete either.
        if CONNECT.starts_with(buf) {
            return Parse::Partial;
        }
        return match parse_request(buf) {
            Parse::Complete(head) if is_https(head.fields.start_line()) => {
                Parse::Invalid(BadRequest::Target)
            }
            Parse::Complete(head) => Parse::Complete(Proxied::Request(head)),
            Parse::Partial => Parse::Partial,
            Parse::Invalid(bad) => Parse::Invalid(bad),
        };
    }
    let window = &buf[..buf.len().min(HEAD_BYTES_MAX)];
    match parse_connect(window) {
        Parse::Partial if window.len() == HEAD_BYTES_MAX => {
            Parse::Invalid(BadRequest::HeadTooLarge)
        }
        Parse::Complete(connect) => Parse::Complete(Proxied::Connect(connect)),
        Parse::Partial => Parse::Partial,
        Parse::Invalid(bad) => Parse::Invalid(bad),
    }
}

/// Whether a request line asks for TLS, which is what `CONNECT` is there for.
fn is_https(start_line: &[u8]) -> bool {
    let mut words = start_line.split(|&byte| byte == b' ');
    let target = words.nth(1).unwrap_or_default();
    let scheme = target.split_at_checked(b"https://".len());
    scheme.is_some_and(|(start, _)| start.eq_ignore_ascii_case(b"https://"))
}

fn parse_connect(buf: &[u8]) -> Parse<Connect<'_>, BadRequest> {
    let (start, mut fields, len) = match read_lines(buf) {
        Parse::Complete(lines) => lines,
        Parse::Partial => return Parse::Partial,
        Parse::Invalid(bad) => return Parse::Invalid(bad),
    };
    if start.target.len() > TARGET_BYTES_MAX || !is_authority(start.target) {
        return Parse::Invalid(BadRequest::Target);
    }
    if hop::apply_connection(&mut fields).invalid {
        return Parse::Invalid(BadRequest::Connection);
    }
    // RFC 9110 9.3.6: it has no content, and what follows it are the tunnel's first bytes. A sender
    // that declares a body means something else.
    match framing::declared(&fields, start.version) {
        Ok(None | Some(Framing::None | Framing::Length(0))) => {}
        Ok(Some(Framing::Length(_) | Framing::Chunked | Framing::UntilClose)) => {
            return Parse::Invalid(BadRequest::Method);
        }
        Err(bad) => return Parse::Invalid(BadRequest::Framing(bad)),
    }
    let hosts = fields.roles().filter(|(_, role)| *role == Role::Host);
    match hosts.count() {
        0 if start.version == Version::Http11 => return Parse::Invalid(BadRequest::HostMissing),
        0 | 1 => {}
        _ => return Parse::Invalid(BadRequest::HostRepeated),
    }
    Parse::Complete(Connect {
        authority: start.target,
        version: start.version,
        len,
        fields,
    })
}

impl RequestHead<'_> {
    /// Writes the head for the host that the target named, `authority`: as [`RequestHead::encode`]
    /// does, but that nothing in it is meant for weir's limiter.
    pub fn encode_onward(&self, authority: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(self.method_bytes);
        out.push(b' ');
        out.extend_from_slice(self.target);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if self.fields.find(Role::Host, 0).is_none() {
            push_line(out, b"Host", authority);
        }
        copy_lines(&self.fields, out, |role| match role {
            Role::EndToEnd
            | Role::Authorization
            | Role::ContentLength
            | Role::AbortAfter
            | Role::RoutedTo
            | Role::NodePass
            | Role::RequestId
            | Role::NodeRequestId => Edit::Keep,
            Role::Host => Edit::Value(authority),
            Role::TransferEncoding => Edit::Value(b"chunked"),
            Role::Connection | Role::Expect | Role::HopByHop | Role::FramingLookAlike => Edit::Drop,
        });
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(head: &str) -> Result<(String, usize), BadRequest> {
        match parse_proxied(head.as_bytes()) {
            Parse::Complete(Proxied::Connect(connect)) => {
                let authority = String::from_utf8_lossy(connect.authority).into_owned();
                Ok((authority, connect.len))
            }
            Parse::Invalid(bad) => Err(bad),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_connect_says_where_to_and_ends_at_its_blank_line() {
        let head = "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
        let with_more = format!("{head}\x16\x03\x01");
        assert_eq!(
            connect(&with_more),
            Ok(("a.example:443".to_owned(), head.len()))
        );
        let old = "CONNECT [::1]:1 HTTP/1.0\r\n\r\n";
        assert_eq!(connect(old), Ok(("[::1]:1".to_owned(), old.len())));
        for end in 0..head.len() {
            let part = parse_proxied(&head.as_bytes()[..end]);
            assert!(matches!(part, Parse::Partial), "{end}");
        }
    }

    #[test]
    fn a_connect_that_two_readers_could_understand_in_two_ways_is_refused() {
        for (head, expected) in [
            ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", BadRequest::Target),
            (
                "CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
                BadRequest::Target,
            ),
            (
                "CONNECT u@a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
                BadRequest::Target,
            ),
            ("CONNECT a:1 HTTP/1.1\r\n\r\n", BadRequest::HostMissing),
            (
                "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
                BadRequest::HostRepeated,
            ),
            (
                "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
                BadRequest::Method,
            ),
            (
                "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                BadRequest::Method,
            ),
            (
                "CONNECT a:1 HTTP/1.1\nHost: a\r\n\r\n",
                BadRequest::LineEnding,
            ),
            (
                "CONNECT a:1 HTTP/2.0\r\nHost: a\r\n\r\n",
                BadRequest::Version,
            ),
            (
                "connect a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
                BadRequest::Method,
            ),
        ] {
            assert_eq!(connect(head), Err(expected), "{head:?}");
        }
        let endless = format!("CONNECT a:1 HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(connect(&endless), Err(BadRequest::HeadTooLarge));
    }

    #[test]
    fn credentials_for_the_proxy_are_found_once_or_not_at_all() {
        let found = |lines: &str| {
            let head = format!("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
            match parse_proxied(head.as_bytes()) {
                Parse::Complete(proxied) => proxied.proxy_authorization().map(<[u8]>::to_vec),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            found("proxy-AUTHORIZATION: Basic x\r\n").as_deref(),
            Some(&b"Basic x"[..])
        );
        assert_eq!(found("Authorization: Basic x\r\n"), None);
        assert_eq!(
            found("Proxy-Authorization: a\r\nProxy-Authorization: a\r\n"),
            None
        );
    }

    #[test]
    fn a_request_goes_on_with_the_host_of_its_target_and_without_what_is_the_proxys() {
        let head = "GET http://A.example:81/x?y HTTP/1.1\r\nHost: other\r\nX-Two:  b\r\n\
                    Proxy-Authorization: Basic x\r\nProxy-Connection: keep-alive\r\n\
                    Nirn-Routed-To: z\r\nX-RateLimit-Abort-After: 1\r\n\r\n";
        let Parse::Complete(Proxied::Request(request)) = parse_proxied(head.as_bytes()) else {
            panic!("a request");
        };
        assert_eq!(request.authority, Some(&b"A.example:81"[..]));
        let mut out = Vec::new();
        request.encode_onward(b"A.example:81", &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "GET /x?y HTTP/1.1\r\nHost: A.example:81\r\nX-Two:  b\r\n\
             Nirn-Routed-To: z\r\nX-RateLimit-Abort-After: 1\r\n\r\n"
        );
    }

    #[test]
    fn a_url_that_asks_for_tls_is_refused_and_a_path_is_for_the_proxy_itself() {
        let parse = |target: &str| {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            match parse_proxied(head.as_bytes()) {
                Parse::Complete(Proxied::Request(head)) => Ok(head.authority.is_some()),
                Parse::Invalid(bad) => Err(bad),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(parse("HTTPS://a/"), Err(BadRequest::Target));
        assert_eq!(parse("HTTP://a/"), Ok(true));
        assert_eq!(parse("http://a/https://"), Ok(true));
        assert_eq!(parse("/nirn/healthz"), Ok(false));
    }
}
