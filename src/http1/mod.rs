//! HTTP/1.1 (RFC 9112) as weir speaks it on both sides: strict in, transparent through.
//!
//! ```text
//! client bytes ─▶ parse_request ─▶ RequestHead::encode ─▶ upstream bytes
//!                      body: BodyTracker over Framing, relayed verbatim
//! upstream bytes ─▶ parse_response ─▶ ResponseHead::encode ─▶ client bytes
//!                      Reply: the answers weir makes itself
//! ```
//!
//! **Strict in.** A message whose end two readers could see in two places is refused, never
//! repaired: one framing only, CRLF only, no folding, no space before a colon, one `Host`, one
//! `Authorization`.
//!
//! **Transparent through.** A head is not rebuilt from its fields: the lines that stay are copied
//! in runs from the buffer they arrived in, so case, order, spacing and obs-text survive byte for
//! byte. Only hop-by-hop lines are cut out, and `Host` and `Transfer-Encoding` are rewritten in
//! place.
//!
//! **Cost.** Nothing is allocated for a head of up to 48 header lines, if the output has room.
//! Fields are 16-bit offsets into the buffer; a head is walked once (`lines`), and each name
//! recognised then.
//! Bodies are never copied or kept: the decoders only count. The exception are small errors, of
//! which `coding` decodes a copy for the limiter.

mod chunked;
mod coding;
mod encode;
mod fields;
mod framing;
mod hop;
mod lenient;
mod lines;
mod proxied;
mod reply;
mod request;
mod request_id;
mod response;
mod target;

#[cfg(test)]
mod tests;

pub use chunked::{BadChunk, ChunkedDecoder, Progress};
pub use coding::{ContentCoding, DECODED_BYTES_MAX};
pub use encode::{ClientSide, Hop, Relay};
pub use fields::Fields;
pub use framing::{BadFraming, BodyTracker, Framing};
pub use lenient::{RequestOutline, outline_request};
pub use proxied::{Connect, Proxied, parse_proxied};
pub use reply::{CONTINUE, Reply, Scope, reason};
pub use request::{BadRequest, RequestHead, parse_request};
pub use request_id::{REQUEST_ID_BYTES_MAX, sane_request_id};
pub use response::{BadResponse, ResponseHead, ResponseOutline, parse_response};

/// Largest head, blank line included, in either direction. Discord's own limit is lower (Cloudflare
/// takes 32 KiB); 64 KiB is what offsets of 16 bits can name.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most header lines in a head. Clients send about 12, Discord about 30; 100 is the usual limit of
/// other servers.
pub const HEADERS_MAX: usize = 100;

/// Longest request target. Cloudflare refuses URLs above 16 KiB itself.
pub const TARGET_BYTES_MAX: usize = 16 * 1024;

/// Longest method. The longest registered one (`UPDATEREDIRECTREF`) has 17 bytes.
pub const METHOD_BYTES_MAX: usize = 32;

const _: () = assert!(
    HEAD_BYTES_MAX <= 1 << 16,
    "offsets into a head are 16 bits wide"
);
const _: () = assert!(TARGET_BYTES_MAX + METHOD_BYTES_MAX < HEAD_BYTES_MAX);

/// What a decoder can say about the bytes it has: "need more" is not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parse<T, E> {
    /// All of it is there.
    Complete(T),
    /// Nothing is wrong so far, and the end has not arrived.
    Partial,
    /// No further byte can make it right.
    Invalid(E),
}

/// A request method. Case-sensitive (RFC 9110 9.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// `TRACE`
    Trace,
    /// `CONNECT`; never in a parsed request, since weir refuses it.
    Connect,
    /// Any other token, relayed as it is.
    Other,
}

impl Method {
    /// The method these bytes name.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match bytes {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"PATCH" => Self::Patch,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// The method's name, `OTHER` for those without one here: a label of bounded cardinality.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Other => "OTHER",
        }
    }

    /// Whether it changes nothing on the server (RFC 9110 9.2.1), so that it may be sent twice and
    /// beside others.
    pub const fn is_safe(self) -> bool {
        match self {
            Self::Get | Self::Head | Self::Options | Self::Trace => true,
            Self::Post | Self::Put | Self::Patch | Self::Delete | Self::Connect | Self::Other => {
                false
            }
        }
    }
}

/// The version a message was sent with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Version {
    /// HTTP/1.0: no chunked bodies, and connections close unless asked otherwise.
    Http10,
    /// HTTP/1.1
    Http11,
}

/// Whether a head in `buf` may have ended in the bytes after the first `seen`, which an earlier
/// parse called [`Parse::Partial`].
///
/// Parsing again after every read costs the square of the head's length if a client sends it
/// byte by byte; looking for the blank line in what is new costs its length. Also true when `buf`
/// has reached [`HEAD_BYTES_MAX`], so that the parser can refuse it.
pub fn may_complete(buf: &[u8], seen: usize) -> bool {
    if buf.len() >= HEAD_BYTES_MAX {
        return true;
    }
    // The line end before the blank line may be among the bytes already seen.
    let tail = buf.get(seen.saturating_sub(2)..).unwrap_or_default();
    let mut line_start = None;
    for (at, _) in tail.iter().enumerate().filter(|&(_, &byte)| byte == b'\n') {
        if line_start.is_some_and(|start: usize| matches!(&tail[start..at], b"" | b"\r")) {
            return true;
        }
        line_start = Some(at + 1);
    }
    false
}
