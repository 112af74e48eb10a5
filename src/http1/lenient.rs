//! Request heads of which little matters, because nothing is passed on: whatever is a head at all is
//! taken, with any method, target and header lines.

use super::framing::{self, Framing};
use super::hop::{self, Role};
use super::request::{read_lines, skip_empty_lines};
use super::{BadRequest, HEAD_BYTES_MAX, Parse, Version};

/// What matters of a head.
#[derive(Clone, Copy)]
pub struct RequestOutline<'b> {
    /// Whether its answer has a head only.
    pub head_only: bool,
    /// The target as it was sent.
    pub target: &'b [u8],
    /// The version the client speaks.
    pub version: Version,
    /// The first `Authorization`. Secret.
    pub authorization: Option<&'b [u8]>,
    /// See [`RequestHead::routed_to`](super::RequestHead::routed_to); here the first.
    pub routed_to: Option<&'b [u8]>,
    /// See [`RequestHead::node_pass`](super::RequestHead::node_pass); here the first.
    pub node_pass: Option<&'b [u8]>,
    /// How the body ends; `None` if that is in doubt, so that its connection has to be closed.
    pub framing: Option<Framing>,
    /// Whether the client wants to send further requests on this connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// Bytes of the buffer up to the end of the blank line; the body begins there.
    pub len: usize,
}

/// Without target and values, which hold tokens.
impl std::fmt::Debug for RequestOutline<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestOutline")
            .field("version", &self.version)
            .field("framing", &self.framing)
            .field("keep_alive", &self.keep_alive)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// Parses the request head at the start of `buf` by its grammar alone (RFC 9112 3 and 5); see
/// [`parse_request`](super::parse_request) for how it is to be called.
pub fn outline_request(buf: &[u8]) -> Parse<RequestOutline<'_>, BadRequest> {
    let window = &buf[..buf.len().min(HEAD_BYTES_MAX)];
    match outline(window) {
        Parse::Partial if window.len() == HEAD_BYTES_MAX => {
            Parse::Invalid(BadRequest::HeadTooLarge)
        }
        parsed => parsed,
    }
}

fn outline(buf: &[u8]) -> Parse<RequestOutline<'_>, BadRequest> {
    let skipped = match skip_empty_lines(buf) {
        Ok(Some(skipped)) => skipped,
        Ok(None) => return Parse::Partial,
        Err(bad) => return Parse::Invalid(bad),
    };
    let buf = &buf[skipped..];
    let (start, mut fields, len) = match read_lines(buf) {
        Parse::Complete(lines) => lines,
        Parse::Partial => return Parse::Partial,
        Parse::Invalid(bad) => return Parse::Invalid(bad),
    };
    let version = start.version;
    let connection = hop::apply_connection(&mut fields);
    let framing = framing::declared(&fields, version);
    let framing = framing.map(|framing| framing.unwrap_or(Framing::None)).ok();
    let first = |role| fields.find(role, 0).map(|at| fields.value(at));
    let expects =
        first(Role::Expect).is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
    Parse::Complete(RequestOutline {
        head_only: start.method == b"HEAD",
        target: start.target,
        version,
        authorization: first(Role::Authorization),
        routed_to: first(Role::RoutedTo),
        node_pass: first(Role::NodePass),
        framing,
        keep_alive: !connection.close
            && !connection.invalid
            && (version == Version::Http11 || connection.keep_alive),
        expect_continue: expects && version == Version::Http11,
        len: skipped + len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(head: &str) -> RequestOutline<'_> {
        match outline_request(head.as_bytes()) {
            Parse::Complete(outline) => outline,
            Parse::Partial => panic!("partial: {head:?}"),
            Parse::Invalid(bad) => panic!("{bad}: {head:?}"),
        }
    }

    #[test]
    fn any_method_target_and_header_is_taken() {
        for head in [
            "GET /?shard=1 HTTP/1.1\r\nHost: x\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\n\r\n",
            "TRACE /?shard=1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "get * HTTP/1.0\r\nHost: \\/\r\nExpect: the unexpected\r\n\r\n",
            "BREW /pot?shard=1 HTTP/1.1\r\nAuthorization: Bot a\r\nAuthorization: Bot b\r\n\r\n",
        ] {
            let outline = complete(head);
            assert_eq!(outline.framing, Some(Framing::None), "{head}");
            assert_eq!(outline.len, head.len(), "{head}");
        }
        let two = "GET / HTTP/1.1\r\nAuthorization: Bot a\r\nAuthorization: Bot b\r\n\r\n";
        assert_eq!(complete(two).authorization, Some(&b"Bot a"[..]));
    }

    #[test]
    fn connections_go_on_as_the_client_wants() {
        for (head, goes_on) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
        ] {
            assert_eq!(complete(head).keep_alive, goes_on, "{head}");
        }
        assert!(complete("HEAD / HTTP/1.1\r\n\r\n").head_only);
        let expects = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
        assert!(complete(expects).expect_continue);
        assert_eq!(complete(expects).framing, Some(Framing::Length(3)));
    }

    #[test]
    fn a_body_whose_end_is_in_doubt_is_told_and_what_is_no_head_is_refused() {
        let twice = "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(complete(twice).framing, None);
        for head in [
            "GET /\r\n\r\n",
            "GET / HTTP/1.1\n\n",
            "GET / HTTP/2.0\r\n\r\n",
            "\0",
        ] {
            let parsed = outline_request(head.as_bytes());
            assert!(matches!(parsed, Parse::Invalid(_)), "{head:?}");
        }
        let head = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for len in 0..head.len() {
            let parsed = outline_request(&head.as_bytes()[..len]);
            assert!(matches!(parsed, Parse::Partial), "{len}");
        }
        let endless = vec![b'a'; HEAD_BYTES_MAX];
        let long = [b"GET / HTTP/1.1\r\nA: ".as_slice(), &endless].concat();
        let parsed = outline_request(&long);
        assert!(matches!(parsed, Parse::Invalid(BadRequest::HeadTooLarge)));
    }
}
