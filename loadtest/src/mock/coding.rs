//! Content codings of errors, as Cloudflare applies them for whoever accepts one.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// A coding that the mock knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coding {
    /// `gzip`
    Gzip,
    /// `deflate`, in zlib's format as RFC 9110 has it.
    Deflate,
    /// `x-raw-deflate`, which nobody offers: `deflate` as some servers send it, without zlib's.
    RawDeflate,
    /// `zstd`
    Zstd,
}

impl Coding {
    /// The first of an `Accept-Encoding` that the mock knows and that is not ruled out with `q=0`.
    pub(super) fn accepted(accept_encoding: &str) -> Option<Self> {
        accept_encoding.split(',').find_map(|offer| {
            let (name, weight) = offer.split_once(';').unwrap_or((offer, ""));
            if weight.trim().trim_start_matches("q=").parse() == Ok(0.0) {
                return None;
            }
            match name.trim() {
                "gzip" => Some(Self::Gzip),
                "deflate" => Some(Self::Deflate),
                "x-raw-deflate" => Some(Self::RawDeflate),
                "zstd" => Some(Self::Zstd),
                _ => None,
            }
        })
    }

    /// As `Content-Encoding` names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate | Self::RawDeflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    /// The body in this coding.
    pub(super) fn encode(self, body: &[u8]) -> Vec<u8> {
        let level = Compression::default();
        // Writing to memory does not fail.
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                let _ = encoder.write_all(body);
                encoder.finish().unwrap_or_default()
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                let _ = encoder.write_all(body);
                encoder.finish().unwrap_or_default()
            }
            Self::RawDeflate => {
                let mut encoder = DeflateEncoder::new(Vec::new(), level);
                let _ = encoder.write_all(body);
                encoder.finish().unwrap_or_default()
            }
            Self::Zstd => compress_to_vec(body, CompressionLevel::Fastest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_coding_that_both_know_is_taken() {
        for (accept, coding) in [
            ("", None),
            ("identity", None),
            ("gzip", Some(Coding::Gzip)),
            ("br;q=1.0, deflate;q=0.5, gzip", Some(Coding::Deflate)),
            ("gzip;q=0, zstd", Some(Coding::Zstd)),
            ("gzip; q=0", None),
        ] {
            assert_eq!(Coding::accepted(accept), coding, "{accept:?}");
        }
    }
}
