//! A digit for the coding, then a body that is said to be of it.
//!
//! - It decodes to at most `DECODED_BYTES_MAX`, or to nothing, whatever it would blow up to.
//! - What it decodes to is an error's body like any other for the limiter.
//! - What was compressed, by `gzip` or `deflate`, comes out again.
//! - Without a coding it is itself; with an unknown one it says nothing.

#![no_main]

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use libfuzzer_sys::fuzz_target;
use std::io::Write;
use weir::http1::ContentCoding::{Brotli, Deflate, Gzip, Identity, Unknown, Zstd};
use weir::http1::DECODED_BYTES_MAX;
use weir::limit::{Answer, PAUSE_MAX};

fuzz_target!(|data: &[u8]| {
    let Some((&digit, body)) = data.split_first() else {
        return;
    };
    assert_eq!(Identity.decode(body).as_deref(), Some(body));
    assert_eq!(Unknown.decode(body), None);
    if body.len() <= DECODED_BYTES_MAX {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(body).expect("a vector takes all");
        let compressed = gzip.finish().expect("a vector takes all");
        assert_eq!(Gzip.decode(&compressed).as_deref(), Some(body));
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(body).expect("a vector takes all");
        let compressed = zlib.finish().expect("a vector takes all");
        assert_eq!(Deflate.decode(&compressed).as_deref(), Some(body));
    }
    let coding = [Gzip, Deflate, Brotli, Zstd][usize::from(digit % 4)];
    let Some(content) = coding.decode(body) else {
        return;
    };
    assert!(content.len() <= DECODED_BYTES_MAX);
    let mut answer = Answer::new(429);
    answer.error_body(&content);
    assert!(answer.body_retry_after.is_none_or(|wait| wait <= PAUSE_MAX));
});
