//! Request heads: what a client may send, and what of it the rest of weir needs to know.

use std::fmt;
use std::mem::MaybeUninit;

use super::fields::Fields;
use super::framing::{self, BadFraming, Framing};
use super::hop::{self, Role};
use super::target::{is_authority, split_target};
use super::{
    HEAD_BYTES_MAX, HEADERS_MAX, METHOD_BYTES_MAX, Method, Parse, TARGET_BYTES_MAX, Version,
};

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
    /// Whether `nirn-routed-to` says that another node has routed this request.
    pub routed_to: bool,
    /// The first `X-RateLimit-Abort-After`, unparsed.
    pub abort_after: Option<&'b [u8]>,
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
    /// More than [`HEADERS_MAX`] header lines.
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
    let skipped = match skip_empty_lines(buf) {
        Ok(Some(skipped)) => skipped,
        Ok(None) => return Parse::Partial,
        Err(bad) => return Parse::Invalid(bad),
    };
    let rest = &buf[skipped..];
    let mut slots = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut raw = httparse::Request::new(&mut []);
    let parsed = raw.parse_with_uninit_headers(rest, &mut slots);
    if let Some(bad) = oversized(rest, &raw) {
        return Parse::Invalid(bad);
    }
    match parsed {
        Ok(httparse::Status::Complete(len)) if skipped + len <= HEAD_BYTES_MAX => {
            match check(&rest[..len], &raw, skipped + len) {
                Ok(head) => Parse::Complete(head),
                Err(bad) => Parse::Invalid(bad),
            }
        }
        Ok(httparse::Status::Complete(_)) => Parse::Invalid(BadRequest::HeadTooLarge),
        Ok(httparse::Status::Partial) if buf.len() >= HEAD_BYTES_MAX => {
            Parse::Invalid(BadRequest::HeadTooLarge)
        }
        Ok(httparse::Status::Partial) => Parse::Partial,
        Err(httparse::Error::TooManyHeaders) => Parse::Invalid(BadRequest::TooManyHeaders),
        Err(httparse::Error::Version) if names_http(rest, &raw) => {
            Parse::Invalid(BadRequest::Version)
        }
        Err(_) => Parse::Invalid(BadRequest::Malformed),
    }
}

/// How many bytes of empty lines come first; `None` if more bytes have to tell.
fn skip_empty_lines(buf: &[u8]) -> Result<Option<usize>, BadRequest> {
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

/// Whether method or target, whole or still arriving, is too long.
fn oversized(rest: &[u8], raw: &httparse::Request<'_, '_>) -> Option<BadRequest> {
    let Some(method) = raw.method else {
        let token = rest
            .iter()
            .take(METHOD_BYTES_MAX + 1)
            .take_while(|&&byte| byte > b' ');
        return (token.count() > METHOD_BYTES_MAX).then_some(BadRequest::Method);
    };
    if method.len() > METHOD_BYTES_MAX {
        return Some(BadRequest::Method);
    }
    let target_len = match raw.path {
        Some(target) => target.len(),
        None => {
            let from = method.len() + 1;
            let window = rest.iter().skip(from).take(TARGET_BYTES_MAX + 1);
            window.take_while(|&&byte| byte > b' ').count()
        }
    };
    (target_len > TARGET_BYTES_MAX).then_some(BadRequest::TargetTooLong)
}

/// Whether the request line names HTTP, in a version that httparse does not know.
fn names_http(rest: &[u8], raw: &httparse::Request<'_, '_>) -> bool {
    let (Some(method), Some(target)) = (raw.method, raw.path) else {
        return false;
    };
    let version = rest
        .get(method.len() + target.len() + 2..)
        .unwrap_or_default();
    version.starts_with(b"HTTP/")
}

/// Everything that httparse does not check, on a head whose end it has found; it ends `len` bytes
/// into the buffer.
fn check<'b>(
    head: &'b [u8],
    raw: &httparse::Request<'_, 'b>,
    len: usize,
) -> Result<RequestHead<'b>, BadRequest> {
    let (Some(method), Some(target), Some(minor)) = (raw.method, raw.path, raw.version) else {
        return Err(BadRequest::Malformed);
    };
    let mut fields = Fields::locate(head, raw.headers).map_err(|_| BadRequest::LineEnding)?;
    let version = if minor == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    let method_bytes = method.as_bytes();
    let method = check_method(method_bytes)?;
    let (authority, target) = split_target(method, target.as_bytes()).ok_or(BadRequest::Target)?;
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
        abort_after: noted.abort_after,
        len,
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
    routed_to: bool,
    abort_after: Option<&'b [u8]>,
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
                Role::RoutedTo => noted.routed_to = true,
                Role::AbortAfter => {
                    noted.abort_after = noted.abort_after.or(Some(fields.value(at)));
                }
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
