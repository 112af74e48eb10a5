//! Each coding as its own encoder writes it, cut short, turned over and blown up.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::ContentCoding::{Brotli, Deflate, Gzip, Identity, Unknown, Zstd};
use super::*;
use crate::http1::{Method, Parse, parse_response};

const ERROR: &[u8] = br#"{"message": "Unknown Webhook", "code": 10015}"#;

/// `ERROR` by Google's brotli at quality 4, which Cloudflare uses for what is not cached.
const BROTLI: &[u8] = &[
    0x1b, 0x2c, 0x00, 0x00, 0x44, 0xdd, 0x96, 0xea, 0x58, 0x36, 0xfc, 0xc1, 0xf2, 0xd2, 0xc5, 0xae,
    0x1e, 0x04, 0xe1, 0x8f, 0x06, 0xb1, 0x2c, 0x11, 0x29, 0x4e, 0x8f, 0xd4, 0x50, 0x68, 0x60, 0x8b,
    0x13, 0x79, 0x03, 0xdd, 0xc7, 0xce, 0x3c, 0x2c, 0xe0, 0xcc, 0xe5, 0x34, 0xa8, 0x88, 0xd6, 0x0f,
];

/// A mebibyte of blanks by the same.
const BROTLI_BOMB: &[u8] = &[
    0x5b, 0xff, 0xff, 0x0f, 0x40, 0x02, 0x24, 0x1e, 0x0b, 0x24, 0xf7, 0xfe, 0x01,
];

/// `ERROR` by Facebook's zstd as a stream: no size, a window of 2 MiB, a checksum at the end.
const ZSTD_STREAM: &[u8] = &[
    0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x69, 0x01, 0x00, 0x7b, 0x22, 0x6d, 0x65, 0x73, 0x73, 0x61,
    0x67, 0x65, 0x22, 0x3a, 0x20, 0x22, 0x55, 0x6e, 0x6b, 0x6e, 0x6f, 0x77, 0x6e, 0x20, 0x57, 0x65,
    0x62, 0x68, 0x6f, 0x6f, 0x6b, 0x22, 0x2c, 0x20, 0x22, 0x63, 0x6f, 0x64, 0x65, 0x22, 0x3a, 0x20,
    0x31, 0x30, 0x30, 0x31, 0x35, 0x7d, 0xb5, 0x4c, 0x75, 0x0a,
];

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    compress_to_vec(content, CompressionLevel::Fastest)
}

/// `ERROR` in every form that is understood.
fn coded() -> [(ContentCoding, Vec<u8>); 6] {
    [
        (Gzip, gzip(ERROR)),
        (Deflate, zlib(ERROR)),
        (Deflate, deflate(ERROR)),
        (Brotli, BROTLI.to_vec()),
        (Zstd, ZSTD_STREAM.to_vec()),
        (Zstd, zstd(ERROR)),
    ]
}

fn coding(headers: &str) -> ContentCoding {
    let head = format!("HTTP/1.1 404 Not Found\r\n{headers}Content-Length: 0\r\n\r\n");
    let Parse::Complete(head) = parse_response(head.as_bytes(), Method::Get) else {
        panic!("not a head: {head:?}");
    };
    ContentCoding::of(&head)
}

#[test]
fn the_head_names_the_coding() {
    for (headers, expected) in [
        ("", Identity),
        ("Content-Encoding: gzip\r\n", Gzip),
        ("content-encoding:  GZip \r\n", Gzip),
        ("Content-Encoding: x-gzip\r\n", Gzip),
        ("Content-Encoding: deflate\r\n", Deflate),
        ("Content-Encoding: br\r\n", Brotli),
        ("Content-Encoding: zstd\r\n", Zstd),
        ("Content-Encoding: identity\r\n", Identity),
        ("Content-Encoding: \r\n", Identity),
        ("Content-Encoding: gzip, br\r\n", Unknown),
        (
            "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n",
            Unknown,
        ),
        ("Content-Encoding: dcb\r\n", Unknown),
        (
            "Content-Encoding: compress\r\nContent-Encoding: identity\r\n",
            Unknown,
        ),
        ("Accept-Encoding: gzip\r\n", Identity),
    ] {
        assert_eq!(coding(headers), expected, "{headers:?}");
    }
}

#[test]
fn every_coding_that_libraries_ask_for_is_understood() {
    for (coding, body) in coded() {
        assert_eq!(coding.decode(&body).as_deref(), Some(ERROR), "{coding:?}");
    }
    assert_eq!(Identity.decode(ERROR).as_deref(), Some(ERROR));
    assert_eq!(Unknown.decode(ERROR), None);
}

#[test]
fn a_body_that_is_cut_short_says_nothing() {
    for (coding, body) in coded() {
        // A zstd checksum is not looked at, and bare deflate has none.
        for len in 0..body.len() - 4 {
            let content = coding.decode(&body[..len]);
            let content = content.as_deref().unwrap_or_default();
            assert_ne!(content, ERROR, "{coding:?}, {len} bytes");
            assert!(serde_json::from_slice::<serde_json::Value>(content).is_err());
        }
    }
}

#[test]
fn a_bomb_is_given_up_at_the_cap() {
    let blanks = vec![b' '; 1024 * 1024];
    for (coding, body) in [
        (Gzip, gzip(&blanks)),
        (Deflate, zlib(&blanks)),
        (Deflate, deflate(&blanks)),
        (Brotli, BROTLI_BOMB.to_vec()),
        (Zstd, zstd(&blanks)),
    ] {
        assert!(body.len() < 8 * 1024, "{coding:?} fits in an error's body");
        assert_eq!(coding.decode(&body), None, "{coding:?}");
    }
    let full = vec![b' '; DECODED_BYTES_MAX];
    assert_eq!(Gzip.decode(&gzip(&full)).as_deref(), Some(&full[..]));
    let more = vec![b' '; DECODED_BYTES_MAX + 1];
    assert_eq!(Gzip.decode(&gzip(&more)), None);
}

#[test]
fn a_zstd_frame_with_a_window_beyond_the_web_s_is_refused() {
    // Exponent and mantissa in one byte (RFC 8878 3.1.1.1.2): 10 + 13 is 8 MiB, 10 + 14 is 16.
    let mut body = ZSTD_STREAM.to_vec();
    body[5] = 13 << 3;
    assert_eq!(Zstd.decode(&body).as_deref(), Some(ERROR));
    body[5] = 14 << 3;
    assert_eq!(Zstd.decode(&body), None);
}

#[test]
fn what_is_of_another_coding_says_nothing() {
    for (is, body) in coded() {
        for said in [Gzip, Deflate, Brotli, Zstd] {
            if said != is {
                let content = said.decode(&body);
                assert_ne!(content.as_deref(), Some(ERROR), "{is:?} as {said:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_to_little_or_nothing(body in prop::collection::vec(any::<u8>(), 0..2_000)) {
        for coding in [Gzip, Deflate, Brotli, Zstd] {
            let content = coding.decode(&body);
            prop_assert!(content.is_none_or(|content| content.len() <= DECODED_BYTES_MAX));
        }
    }

    #[test]
    fn a_body_with_a_changed_byte_breaks_nothing(
        which in 0..6_usize, at in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let (coding, mut body) = coded()[which].clone();
        let at = at.index(body.len());
        body[at] = to;
        let content = coding.decode(&body);
        prop_assert!(content.is_none_or(|content| content.len() <= DECODED_BYTES_MAX));
    }
}
