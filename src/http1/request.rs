//! Request heads: what a client may send, and what of it the rest of weir needs to know.

use std::fmt;

use super::fields::{Fields, Places};
use super::framing::{self, BadFraming, Framing};
use super::hop::{self, Role};
use super::lines::{self, BadLine, BadVersion};
use super::target::{is_authority, split_target};
use super::{HEAD_BYTES_MAX, METHOD_BYTES_MAX, Method, Parse, TARGET_BYTES_MAX, Version};

/// Most empty lines before a request line. RFC 9112 2.2 asks for tolerance of one, which old
/// clients send after a body; two costs nothing, more is noise.
const EMPTY_LINES_MAX: usize = 2;

/// A request head, borrowed from the buffer it arrived in.
#[derive(Clone)]
pub struct RequestHead<'b> {
    /// The method.
    pub method: Method,
    /// The method as it was sent, for [`Method::Other`].
    pub method_bytes: &'b [u8],
    /// Path and query as they were sent, or `*`. Of an absolute-form target, what follows the
    /// authority.
    pub target: &'b [u8],
    /// The authority of an absolute-form target.
    pub authority: Option<&'b [u8]>,
    /// The version the client speaks.
    pub version: Version,
    /// How the body ends; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether the client wants to send further requests on this connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The one `Authorization`. Secret.
    pub authorization: Option<&'b [u8]>,
    /// The last `nirn-routed-to` that says something: another node has routed this request here, which
    /// it calls this.
    pub routed_to: Option<&'b [u8]>,
    /// How many lines say so: one for each time that nodes relayed it.
    pub relays: u8,
    /// The last `weir-pass`: what shows that another node has.
    pub node_pass: Option<&'b [u8]>,
    /// The first `X-RateLimit-Abort-After`, unparsed.
    pub abort_after: Option<&'b [u8]>,
    /// The first `X-Request-Id`, as it was sent.
    pub request_id: Option<&'b [u8]>,
    /// The last `weir-request-id`: what another node calls the request.
    pub node_request_id: Option<&'b [u8]>,
    /// Bytes of the buffer up to the end of the blank line; the body begins there.
    pub len: usize,
    /// The header lines.
    pub fields: Fields<'b>,
}

impl<'b> RequestHead<'b> {
    /// Names and values of all header lines as they arrived, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + '_ {
        self.fields.iter()
    }
}

/// Without target and values: they hold tokens, and tokens do not belong into logs.
impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("version", &self.version)
            .field("framing", &self.framing)
            .field("keep_alive", &self.keep_alive)
            .field("len", &self.len)
            .field("fields", &self.fields)
            .finish_non_exhaustive()
    }
}

/// Why a request is refused. Its connection is closed after the answer: where the next request
/// would begin is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadRequest {
    /// Not the grammar of RFC 9112: a bad byte, a folded line, a space before a colon, …
    Malformed,
    /// A line that ends in LF alone.
    LineEnding,
    /// More than two empty lines before the request line.
    EmptyLines,
    /// The head is larger than [`HEAD_BYTES_MAX`].
    HeadTooLarge,
    /// More than [`HEADERS_MAX`](super::HEADERS_MAX) header lines.
    TooManyHeaders,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// `CONNECT`, a method longer than [`METHOD_BYTES_MAX`], or one that differs from `HEAD` or
    /// `CONNECT` by case only, so that two readers could frame the answer in two ways. `TRACE`,
    /// whose answer repeats what was sent, the token among it; `PRI`, which begins HTTP/2.
    Method,
    /// A target that is no path, no `http` or `https` URL, and not the `*` of OPTIONS.
    Target,
    /// The target is longer than [`TARGET_BYTES_MAX`].
    TargetTooLong,
    /// No `Host` in an HTTP/1.1 request.
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// A `Host` that cannot be an authority.
    HostInvalid,
    /// More than one `Authorization`: whose request is it?
    AuthorizationRepeated,
    /// `Connection` lists too much, or a field that no hop may take away.
    Connection,
    /// An `Expect` that is not `100-continue`, once: an upstream that reads it otherwise waits for
    /// a body or does not, and the two take the next bytes for different things.
    Expectation,
    /// The body has no certain end.
    Framing(BadFraming),
}

impl BadRequest {
    /// The status that says so.
    pub const fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            Self::Method | Self::Framing(BadFraming::CodingUnsupported) => 501,
            Self::Version => 505,
            Self::Malformed
            | Self::LineEnding
            | Self::EmptyLines
            | Self::Target
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostInvalid
            | Self::AuthorizationRepeated
            | Self::Connection
            | Self::Framing(
                BadFraming::LengthAndCoding
                | BadFraming::LengthRepeated
                | BadFraming::LengthInvalid
                | BadFraming::CodingInHttp10
                | BadFraming::LookAlike,
            ) => 400,
        }
    }

    /// The reason in words, for the answer.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Malformed => "request head is malformed",
            Self::LineEnding => "request line or header line does not end in CRLF",
            Self::EmptyLines => "too many empty lines before the request",
            Self::HeadTooLarge => "request head is larger than 64 KiB",
            Self::TooManyHeaders => "more than 100 header lines",
            Self::Version => "only HTTP/1.0 and HTTP/1.1 are supported",
            Self::Method => "method is not supported",
            Self::Target => "request target is invalid",
            Self::TargetTooLong => "request target is longer than 16 KiB",
            Self::HostMissing => "Host is missing",
            Self::HostRepeated => "more than one Host",
            Self::HostInvalid => "Host is invalid",
            Self::AuthorizationRepeated => "more than one Authorization",
            Self::Connection => "Connection is invalid",
            Self::Expectation => "the only expectation that is met is 100-continue",
            Self::Framing(bad) => bad.message(),
        }
    }
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for BadRequest {}

/// Parses the request head at the start of `buf`; bytes after it are left alone.
///
/// To be called again with more bytes after [`Parse::Partial`]; see [`super::may_complete`] for
/// when that is worth it.
pub fn parse_request(buf: &[u8]) -> Parse<RequestHead<'_>, BadRequest> {
    // What lies beyond cannot belong to a head that is small enough.
    let window = &buf[..buf.len().min(HEAD_BYTES_MAX)];
    match parse_within(window) {
        Parse::Partial if window.len() == HEAD_BYTES_MAX => {
            Parse::Invalid(BadRequest::HeadTooLarge)
        }
        parsed => parsed,
    }
}

#[inline]
fn parse_within(buf: &[u8]) -> Parse<RequestHead<'_>, BadRequest> {
    let skipped = match skip_empty_lines(buf) {
        Ok(Some(skipped)) => skipped,
        Ok(None) => return Parse::Partial,
        Err(bad) => return Parse::Invalid(bad),
    };
    let buf = &buf[skipped..];
    let start = match RequestLine::read(buf) {
        Parse::Complete(start) => start,
        Parse::Partial => return Parse::Partial,
        Parse::Invalid(bad) => return Parse::Invalid(bad),
    };
    let mut places = Places::default();
    match lines::read(buf, start.len, &mut places) {
        Parse::Complete(len) => match check(&start, Fields::new(&buf[..len], places), skipped) {
            Ok(head) => Parse::Complete(head),
            Err(bad) => Parse::Invalid(bad),
        },
        Parse::Partial => Parse::Partial,
        Parse::Invalid(bad) => Parse::Invalid(bad.into()),
    }
}

impl From<BadLine> for BadRequest {
    fn from(bad: BadLine) -> Self {
        match bad {
            BadLine::Malformed => Self::Malformed,
            BadLine::LineEnding => Self::LineEnding,
            BadLine::TooMany => Self::TooManyHeaders,
        }
    }
}

/// How many bytes of empty lines come first; `None` if more bytes have to tell.
pub(super) fn skip_empty_lines(buf: &[u8]) -> Result<Option<usize>, BadRequest> {
    let mut at = 0;
    loop {
        let more_allowed = at < EMPTY_LINES_MAX * 2;
        match &buf[at..] {
            [] => return Ok(None),
            [b'\r'] if more_allowed => return Ok(None),
            [b'\r', b'\n', ..] if more_allowed => at += 2,
            [b'\n', ..] => return Err(BadRequest::LineEnding),
            [b'\r', ..] if more_allowed => return Err(BadRequest::Malformed),
            [b'\r', ..] => return Err(BadRequest::EmptyLines),
            _ => return Ok(Some(at)),
        }
    }
}

/// The first line, in the grammar of RFC 9112 3.
pub(super) struct RequestLine<'b> {
    pub(super) method: &'b [u8],
    pub(super) target: &'b [u8],
    pub(super) version: Version,
    /// Bytes up to its end.
    pub(super) len: usize,
}

/// The first line and the header lines of a head, once all of it is there, which is all that they cover.
pub(super) fn read_lines(buf: &[u8]) -> Parse<(RequestLine<'_>, Fields<'_>, usize), BadRequest> {
    let start = match RequestLine::read(buf) {
        Parse::Complete(start) => start,
        Parse::Partial => return Parse::Partial,
        Parse::Invalid(bad) => return Parse::Invalid(bad),
    };
    let mut places = Places::default();
    match lines::read(buf, start.len, &mut places) {
        Parse::Complete(len) => Parse::Complete((start, Fields::new(&buf[..len], places), len)),
        Parse::Partial => Parse::Partial,
        Parse::Invalid(bad) => Parse::Invalid(bad.into()),
    }
}

impl<'b> RequestLine<'b> {
    #[inline]
    pub(super) fn read(buf: &'b [u8]) -> Parse<Self, BadRequest> {
        let method_len = lines::token_len(buf);
        if method_len > METHOD_BYTES_MAX {
            return Parse::Invalid(BadRequest::Method);
        }
        match buf.get(method_len) {
            Some(b' ') if method_len > 0 => {}
            Some(_) => return Parse::Invalid(BadRequest::Malformed),
            None => return Parse::Partial,
        }
        let (method, target) = (&buf[..method_len], &buf[method_len + 1..]);
        let target_len = target_len(target);
        if target_len > TARGET_BYTES_MAX {
            return Parse::Invalid(BadRequest::TargetTooLong);
        }
        match target.get(target_len) {
            Some(b' ') if target_len > 0 => {}
            Some(_) => return Parse::Invalid(BadRequest::Malformed),
            None => return Parse::Partial,
        }
        let target = &target[..target_len];
        let (version, at) = match lines::version(buf, method_len + target_len + 2) {
            Parse::Complete(found) => found,
            Parse::Partial => return Parse::Partial,
            Parse::Invalid(BadVersion::Unknown) => return Parse::Invalid(BadRequest::Version),
            Parse::Invalid(BadVersion::NotHttp) => return Parse::Invalid(BadRequest::Malformed),
        };
        match lines::line_end(buf, at) {
            Parse::Complete(len) => Parse::Complete(Self {
                method,
                target,
                version,
                len,
            }),
            Parse::Partial => Parse::Partial,
            Parse::Invalid(bad) => Parse::Invalid(bad.into()),
        }
    }
}

/// Bytes of the target at the start of `buf`: printable ones of ASCII, or UTF-8.
#[inline]
fn target_len(buf: &[u8]) -> usize {
    let ascii = lines::graphic_len(buf);
    let Some(0x80..) = buf.get(ascii) else {
        return ascii;
    };
    let rest = buf.iter().skip(ascii);
    let is_text = |byte: &&u8| **byte > b' ' && **byte != 0x7f;
    let all = ascii + rest.take_while(is_text).count();
    match std::str::from_utf8(&buf[..all]) {
        Err(bad) if all < buf.len() => bad.valid_up_to(),
        _ => all,
    }
}

/// Everything that concerns more than one line, on a head of which each is sound; `skipped` bytes
/// lie before it.
#[inline]
fn check<'b>(
    start: &RequestLine<'b>,
    mut fields: Fields<'b>,
    skipped: usize,
) -> Result<RequestHead<'b>, BadRequest> {
    let version = start.version;
    let method_bytes = start.method;
    let method = check_method(method_bytes)?;
    let (authority, target) = split_target(method, start.target).ok_or(BadRequest::Target)?;
    let connection = hop::apply_connection(&mut fields);
    if connection.invalid {
        return Err(BadRequest::Connection);
    }
    let framing = framing::declared(&fields, version).map_err(BadRequest::Framing)?;
    let framing = framing.unwrap_or(Framing::None);
    let noted = Noted::read(&fields, version)?;
    Ok(RequestHead {
        method,
        method_bytes,
        target,
        authority,
        version,
        framing,
        keep_alive: !connection.close && (version == Version::Http11 || connection.keep_alive),
        // Nobody waits with a body that is not there, and HTTP/1.0 knows no 1xx.
        expect_continue: noted.expect_continue
            && version == Version::Http11
            && !matches!(framing, Framing::None | Framing::Length(0)),
        authorization: noted.authorization,
        routed_to: noted.routed_to,
        relays: noted.relays,
        node_pass: noted.node_pass,
        abort_after: noted.abort_after,
        request_id: noted.request_id,
        node_request_id: noted.node_request_id,
        len: skipped + fields.head_len(),
        fields,
    })
}

fn check_method(bytes: &[u8]) -> Result<Method, BadRequest> {
    match Method::from_bytes(bytes) {
        Method::Connect | Method::Trace => Err(BadRequest::Method),
        Method::Other
            if [&b"HEAD"[..], b"CONNECT", b"TRACE", b"PRI"]
                .iter()
                .any(|known| bytes.eq_ignore_ascii_case(known)) =>
        {
            Err(BadRequest::Method)
        }
        method => Ok(method),
    }
}

/// What the header lines say to weir itself.
#[derive(Default)]
struct Noted<'b> {
    hosts: u32,
    expect_continue: bool,
    authorization: Option<&'b [u8]>,
    routed_to: Option<&'b [u8]>,
    relays: u8,
    node_pass: Option<&'b [u8]>,
    abort_after: Option<&'b [u8]>,
    request_id: Option<&'b [u8]>,
    node_request_id: Option<&'b [u8]>,
}

impl<'b> Noted<'b> {
    fn read(fields: &Fields<'b>, version: Version) -> Result<Self, BadRequest> {
        let mut noted = Self::default();
        for (at, role) in fields.roles() {
            match role {
                Role::Host => {
                    noted.hosts += 1;
                    if !is_authority(fields.value(at)) {
                        return Err(BadRequest::HostInvalid);
                    }
                }
                Role::Authorization => {
                    if noted.authorization.replace(fields.value(at)).is_some() {
                        return Err(BadRequest::AuthorizationRepeated);
                    }
                }
                Role::Expect => {
                    let met = fields.value(at).eq_ignore_ascii_case(b"100-continue");
                    if !met || noted.expect_continue {
                        return Err(BadRequest::Expectation);
                    }
                    noted.expect_continue = true;
                }
                Role::RoutedTo => {
                    let node = Some(fields.value(at)).filter(|node| !node.is_empty());
                    noted.relays = noted.relays.saturating_add(u8::from(node.is_some()));
                    noted.routed_to = node.or(noted.routed_to);
                }
                Role::NodePass => noted.node_pass = Some(fields.value(at)),
                Role::AbortAfter => {
                    noted.abort_after = noted.abort_after.or(Some(fields.value(at)));
                }
                Role::RequestId => {
                    noted.request_id = noted.request_id.or(Some(fields.value(at)));
                }
                Role::NodeRequestId => noted.node_request_id = Some(fields.value(at)),
                Role::EndToEnd
                | Role::ContentLength
                | Role::TransferEncoding
                | Role::Connection
                | Role::HopByHop
                | Role::FramingLookAlike => {}
            }
        }
        match noted.hosts {
            0 if version == Version::Http11 => Err(BadRequest::HostMissing),
            0 | 1 => Ok(noted),
            _ => Err(BadRequest::HostRepeated),
        }
    }
}

#[cfg(test)]
mod tests;
