//! Response heads from the upstream: as strict as for clients, since an answer whose end is in
//! doubt would put its rest in front of the next client's answer.

use std::fmt;
use std::mem::MaybeUninit;

use super::fields::{Fields, Places};
use super::framing::{self, BadFraming, Framing};
use super::hop;
use super::{HEAD_BYTES_MAX, HEADERS_MAX, Method, Parse, Version};

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
            fields: Fields::at(&buf[..self.len], &self.places),
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
    /// More than [`HEADERS_MAX`] header lines.
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
    if matches!(buf.first(), Some(b'\r' | b'\n')) {
        return Parse::Invalid(BadResponse::Malformed);
    }
    let mut slots = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut raw = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut raw, buf, &mut slots) {
        Ok(httparse::Status::Complete(len)) if len <= HEAD_BYTES_MAX => {
            match check(&buf[..len], &raw, request_method) {
                Ok(head) => Parse::Complete(head),
                Err(bad) => Parse::Invalid(bad),
            }
        }
        Ok(httparse::Status::Complete(_)) => Parse::Invalid(BadResponse::HeadTooLarge),
        Ok(httparse::Status::Partial) if buf.len() >= HEAD_BYTES_MAX => {
            Parse::Invalid(BadResponse::HeadTooLarge)
        }
        Ok(httparse::Status::Partial) => Parse::Partial,
        Err(httparse::Error::TooManyHeaders) => Parse::Invalid(BadResponse::TooManyHeaders),
        Err(httparse::Error::Version) => Parse::Invalid(BadResponse::Version),
        Err(_) => Parse::Invalid(BadResponse::Malformed),
    }
}

/// Everything that httparse does not check, on a head whose end it has found.
fn check<'b>(
    head: &'b [u8],
    raw: &httparse::Response<'_, 'b>,
    request_method: Method,
) -> Result<ResponseHead<'b>, BadResponse> {
    let (Some(minor), Some(status)) = (raw.version, raw.code) else {
        return Err(BadResponse::Malformed);
    };
    let mut fields = Fields::locate(head, raw.headers).map_err(|_| BadResponse::LineEnding)?;
    let version = if minor == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
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
        len: head.len(),
        fields,
    })
}

#[cfg(test)]
mod tests;
