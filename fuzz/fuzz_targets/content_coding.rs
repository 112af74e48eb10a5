//! A digit for the coding, then a body that is said to be of it.
//!
//! - It decodes to at most `DECODED_BYTES_MAX`, or to nothing, whatever it would blow up to.
//! - What it decodes to is an error's body like any other for the limiter.
//! - Without a coding it is itself; with an unknown one it says nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::http1::ContentCoding::{Brotli, Deflate, Gzip, Identity, Unknown, Zstd};
use weir::http1::DECODED_BYTES_MAX;
use weir::limit::{Answer, PAUSE_MAX};

fuzz_target!(|data: &[u8]| {
    let Some((&digit, body)) = data.split_first() else {
        return;
    };
    assert_eq!(Identity.decode(body).as_deref(), Some(body));
    assert_eq!(Unknown.decode(body), None);
    let coding = [Gzip, Deflate, Brotli, Zstd][usize::from(digit % 4)];
    let Some(content) = coding.decode(body) else {
        return;
    };
    assert!(content.len() <= DECODED_BYTES_MAX);
    let mut answer = Answer::new(429);
    answer.error_body(&content);
    assert!(answer.body_retry_after.is_none_or(|wait| wait <= PAUSE_MAX));
});
