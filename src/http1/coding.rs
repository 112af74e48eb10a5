//! Content codings (RFC 9110 8.4.1) of bodies that weir looks into: errors, which say in JSON why.
//!
//! ```text
//! body ─▶ relayed as it came
//!      └▶ copy ─▶ decode ─▶ at most DECODED_BYTES_MAX ─▶ the limiter
//! ```
//!
//! What a client accepts, it passes upstream, and so an error may come compressed: `gzip`,
//! `deflate` and `br` are asked for by every common library, `zstd` by aiohttp on Python 3.14.
//! Whatever cannot be decoded, or decodes to too much, says nothing; headers decide then.
//!
//! **Cost.** Only for errors (401, 403, 404, 429), and only if compressed: up to 15 µs for
//! one of Discord's, and for that long a window of at most 32 KiB (gzip, deflate), 8 MiB (zstd) or
//! 16 MiB (br), of which only what is decoded into is touched.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::ResponseHead;

/// Bytes that a body is decoded to at most. Discord's errors are below 1 KiB; 16 KiB leave
/// room for any list of validation errors, and are no bomb.
pub const DECODED_BYTES_MAX: usize = 16 * 1024;

/// Largest window of a zstd frame: what `Content-Encoding: zstd` may use (RFC 9659).
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Bytes that the brotli decoder takes its input in: an error's body is one piece or two.
const BROTLI_INPUT_BYTES: usize = 4 * 1024;

/// How a body is coded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContentCoding {
    /// Not at all.
    Identity,
    /// `gzip`, or by its old name `x-gzip` (RFC 1952).
    Gzip,
    /// `deflate`: zlib (RFC 1950) by the letter, but some send bare deflate (RFC 1951).
    Deflate,
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878).
    Zstd,
    /// Another one, or several on top of each other.
    Unknown,
}

impl ContentCoding {
    /// What the head says of its body.
    pub fn of(head: &ResponseHead<'_>) -> Self {
        let mut coding = Self::Identity;
        for (name, value) in head.headers() {
            if name.eq_ignore_ascii_case(b"content-encoding") {
                coding = match coding {
                    Self::Identity => Self::named(value),
                    _ => Self::Unknown,
                };
            }
        }
        coding
    }

    /// The coding of this name (RFC 9110 8.4.1: in any case).
    fn named(value: &[u8]) -> Self {
        let is = |name: &str| value.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
        if is("gzip") || is("x-gzip") {
            Self::Gzip
        } else if is("deflate") {
            Self::Deflate
        } else if is("br") {
            Self::Brotli
        } else if is("zstd") {
            Self::Zstd
        } else if is("identity") || is("") {
            Self::Identity
        } else {
            Self::Unknown
        }
    }

    /// The content of a whole body. `None` if the coding is unknown, the body is not of it or not
    /// whole, or its content exceeds [`DECODED_BYTES_MAX`].
    pub fn decode(self, body: &[u8]) -> Option<Cow<'_, [u8]>> {
        let content = match self {
            Self::Identity => return Some(Cow::Borrowed(body)),
            Self::Gzip => bounded(GzDecoder::new(body)),
            Self::Deflate if is_zlib(body) => bounded(ZlibDecoder::new(body)),
            Self::Deflate => bounded(DeflateDecoder::new(body)),
            Self::Brotli => bounded(brotli_decompressor::Decompressor::new(
                body,
                BROTLI_INPUT_BYTES,
            )),
            Self::Zstd => {
                let mut decoder = ruzstd::decoding::FrameDecoder::new();
                decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
                let frame = ruzstd::decoding::StreamingDecoder::new_with_decoder(body, decoder);
                bounded(frame.ok()?)
            }
            Self::Unknown => None,
        };
        content.map(Cow::Owned)
    }
}

/// All that `decoder` gives, unless it is too much.
fn bounded(decoder: impl Read) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let limit = DECODED_BYTES_MAX as u64 + 1;
    decoder.take(limit).read_to_end(&mut content).ok()?;
    (content.len() <= DECODED_BYTES_MAX).then_some(content)
}

/// Whether it begins as zlib does (RFC 1950 2.2): method 8, and a check of the first two bytes.
fn is_zlib(body: &[u8]) -> bool {
    match *body {
        [method, flags, ..] => {
            method & 0x0f == 8 && u16::from_be_bytes([method, flags]).is_multiple_of(31)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
