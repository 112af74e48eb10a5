//! Response heads from the upstream: as strict as for clients, since an answer whose end is in
//! doubt would put its rest in front of the next client's answer.

use std::fmt;

use super::fields::{Fields, Places};
use super::framing::{self, BadFraming, Framing};
use super::hop;
use super::lines::{self, BadLine, BadVersion};
use super::{HEAD_BYTES_MAX, Method, Parse, Version};

/// Statuses that HTTP defines (RFC 9110 15); Cloudflare's own end at 530.
const STATUSES: std::ops::RangeInclusive<u16> = 100..=599;

/// A response head, borrowed from the buffer it arrived in.
#[derive(Clone)]
pub struct ResponseHead<'b> {
    /// The status, 100 to 599, never 101.
    pub status: u16,
    /// The version the upstream speaks.
    pub version: Version,
    /// How the body ends, with regard to status and request method.
    pub framing: Framing,
    /// Whether the upstream takes another request on this connection, once the body is over.
    pub keep_alive: bool,
    /// Bytes of the buffer up to the end of the blank line; the body begins there.
    pub len: usize,
    /// The header lines.
    pub fields: Fields<'b>,
}

impl<'b> ResponseHead<'b> {
    /// Names and values of all header lines as they arrived, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + '_ {
        self.fields.iter()
    }

    /// Whether another head follows that answers the same request (1xx).
    pub const fn is_interim(&self) -> bool {
        self.status < 200
    }
}

/// What a head says and where its lines lie, without its bytes: they stay in the buffer that they
/// arrived in, and need not be parsed again when they are relayed.
#[derive(Clone, Debug)]
pub struct ResponseOutline {
    status: u16,
    version: Version,
    /// See [`ResponseHead::framing`].
    pub framing: Framing,
    /// See [`ResponseHead::keep_alive`].
    pub keep_alive: bool,
    len: usize,
    places: Places,
}

impl ResponseHead<'_> {
    /// The head without its bytes.
    pub fn outline(&self) -> ResponseOutline {
        ResponseOutline {
            status: self.status,
            version: self.version,
            framing: self.framing,
            keep_alive: self.keep_alive,
            len: self.len,
            places: self.fields.places(),
        }
    }
}

impl ResponseOutline {
    /// See [`ResponseHead::len`].
    pub const fn head_len(&self) -> usize {
        self.len
    }

    /// The head again, at the start of `buf`, which must begin with the bytes it was parsed from.
    ///
    /// # Panics
    /// `buf` is shorter than the head.
    pub fn over<'b>(&self, buf: &'b [u8]) -> ResponseHead<'b> {
        ResponseHead {
            status: self.status,
            version: self.version,
            framing: self.framing,
            keep_alive: self.keep_alive,
            len: self.len,
            fields: Fields::new(&buf[..self.len], self.places.clone()),
        }
    }
}

/// Without values: set-cookie is nobody's business.
impl fmt::Debug for ResponseHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseHead")
            .field("status", &self.status)
            .field("version", &self.version)
            .field("framing", &self.framing)
            .field("keep_alive", &self.keep_alive)
            .field("len", &self.len)
            .field("fields", &self.fields)
            .finish()
    }
}

/// Why an answer cannot be relayed. The upstream connection cannot be used further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadResponse {
    /// Not the grammar of RFC 9112.
    Malformed,
    /// A line that ends in LF alone.
    LineEnding,
    /// The head is larger than [`HEAD_BYTES_MAX`].
    HeadTooLarge,
    /// More than [`HEADERS_MAX`](super::HEADERS_MAX) header lines.
    TooManyHeaders,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// A status below 100 or above 599.
    Status,
    /// `101 Switching Protocols`: weir relays no `Upgrade`, so nobody asked for it.
    SwitchingProtocols,
    /// An interim answer that announces a body: whether the next bytes are that body or the answer,
    /// two readers see in two ways.
    InterimBody,
    /// `Connection` lists too much, or a field that no hop may take away.
    Connection,
    /// The body has no certain end.
    Framing(BadFraming),
}

impl BadResponse {
    /// The reason in words, for a log line.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Malformed => "response head is malformed",
            Self::LineEnding => "status line or header line does not end in CRLF",
            Self::HeadTooLarge => "response head is larger than 64 KiB",
            Self::TooManyHeaders => "more than 100 header lines",
            Self::Version => "response is neither HTTP/1.0 nor HTTP/1.1",
            Self::Status => "status is out of range",
            Self::SwitchingProtocols => "upstream switches protocols unasked",
            Self::InterimBody => "interim answer announces a body",
            Self::Connection => "Connection is invalid",
            Self::Framing(bad) => bad.message(),
        }
    }
}

impl fmt::Display for BadResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for BadResponse {}

/// Parses the response head at the start of `buf`, which answers a request with `request_method`.
///
/// A 1xx head is complete in itself, without a body; the next head follows it. No empty line is
/// tolerated before the status line: it would be the rest of something else.
pub fn parse_response(buf: &[u8], request_method: Method) -> Parse<ResponseHead<'_>, BadResponse> {
    // What lies beyond cannot belong to a head that is small enough.
    let window = &buf[..buf.len().min(HEAD_BYTES_MAX)];
    match parse_within(window, request_method) {
        Parse::Partial if window.len() == HEAD_BYTES_MAX => {
            Parse::Invalid(BadResponse::HeadTooLarge)
        }
        parsed => parsed,
    }
}

#[inline]
fn parse_within(buf: &[u8], request_method: Method) -> Parse<ResponseHead<'_>, BadResponse> {
    let start = match StatusLine::read(buf) {
        Parse::Complete(start) => start,
        Parse::Partial => return Parse::Partial,
        Parse::Invalid(bad) => return Parse::Invalid(bad),
    };
    let mut places = Places::default();
    match lines::read(buf, start.len, &mut places) {
        Parse::Complete(len) => {
            match check(&start, Fields::new(&buf[..len], places), request_method) {
                Ok(head) => Parse::Complete(head),
                Err(bad) => Parse::Invalid(bad),
            }
        }
        Parse::Partial => Parse::Partial,
        Parse::Invalid(bad) => Parse::Invalid(bad.into()),
    }
}

impl From<BadLine> for BadResponse {
    fn from(bad: BadLine) -> Self {
        match bad {
            BadLine::Malformed => Self::Malformed,
            BadLine::LineEnding => Self::LineEnding,
            BadLine::TooMany => Self::TooManyHeaders,
        }
    }
}

/// The first line, in the grammar of RFC 9112 4, or without the space before a missing reason.
struct StatusLine {
    version: Version,
    status: u16,
    /// Bytes up to its end.
    len: usize,
}

impl StatusLine {
    #[inline]
    fn read(buf: &[u8]) -> Parse<Self, BadResponse> {
        let (version, at) = match lines::version(buf, 0) {
            Parse::Complete(found) => found,
            Parse::Partial => return Parse::Partial,
            // Nothing but HTTP is ever asked for.
            Parse::Invalid(BadVersion::Unknown) => return Parse::Invalid(BadResponse::Version),
            Parse::Invalid(BadVersion::NotHttp) if matches!(buf[0], b'\r' | b'\n') => {
                return Parse::Invalid(BadResponse::Malformed);
            }
            Parse::Invalid(BadVersion::NotHttp) => return Parse::Invalid(BadResponse::Version),
        };
        let mut status = 0;
        let mut digits = buf[at..].iter();
        match digits.next() {
            Some(b' ') => {}
            Some(_) => return Parse::Invalid(BadResponse::Malformed),
            None => return Parse::Partial,
        }
        for _ in 0..3 {
            match digits.next() {
                Some(digit @ b'0'..=b'9') => status = status * 10 + u16::from(digit - b'0'),
                Some(_) => return Parse::Invalid(BadResponse::Malformed),
                None => return Parse::Partial,
            }
        }
        let mut at = at + 4;
        if buf.get(at) == Some(&b' ') {
            at = lines::text_end(buf, at);
        }
        match lines::line_end(buf, at) {
            Parse::Complete(len) => Parse::Complete(Self {
                version,
                status,
                len,
            }),
            Parse::Partial => Parse::Partial,
            Parse::Invalid(bad) => Parse::Invalid(bad.into()),
        }
    }
}

/// Everything that concerns more than one line, on a head of which each is sound.
#[inline]
fn check<'b>(
    start: &StatusLine,
    mut fields: Fields<'b>,
    request_method: Method,
) -> Result<ResponseHead<'b>, BadResponse> {
    let (version, status) = (start.version, start.status);
    match status {
        101 => return Err(BadResponse::SwitchingProtocols),
        status if !STATUSES.contains(&status) => return Err(BadResponse::Status),
        _ => {}
    }
    let connection = hop::apply_connection(&mut fields);
    if connection.invalid {
        return Err(BadResponse::Connection);
    }
    let declared = framing::declared(&fields, version).map_err(BadResponse::Framing)?;
    let (framing, ends_surely) = match (request_method, status, declared) {
        // These may say what a GET would have brought.
        (Method::Head, 200.., _) | (_, 304, _) => (Framing::None, true),
        // These must not announce anything: whoever does may send it, too.
        (_, 100..200 | 204, None | Some(Framing::Length(0))) => (Framing::None, true),
        (_, 100..200, Some(_)) => return Err(BadResponse::InterimBody),
        (_, 204, Some(_)) => (Framing::None, false),
        (_, _, Some(framing)) => (framing, true),
        (_, _, None) => (Framing::UntilClose, false),
    };
    let persists = !connection.close && (version == Version::Http11 || connection.keep_alive);
    Ok(ResponseHead {
        status,
        version,
        framing,
        keep_alive: persists && ends_surely,
        len: fields.head_len(),
        fields,
    })
}

#[cfg(test)]
mod tests;
