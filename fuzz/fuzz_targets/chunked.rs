//! Any bytes as a chunked body. The first byte chooses how the others are cut into pieces.
//!
//! - In whatever pieces a body arrives, its content, its end and its error are those of one piece;
//!   an error stays.
//! - The ranges of content lie in the input, in order, none of them empty.
//! - A body that is cut short is never taken for whole.
//! - The content, sent in chunks of one byte, comes out again.

#![no_main]

mod pieces;

use libfuzzer_sys::fuzz_target;
use weir::http1::{BadChunk, BodyTracker, ChunkedDecoder, Framing};

/// What became of a body.
#[derive(PartialEq, Eq, Debug)]
struct Decoded {
    content: Vec<u8>,
    /// Bytes that belong to it, and whether it is over.
    end: Result<(usize, bool), BadChunk>,
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, body)) = data.split_first() else {
        return;
    };
    let whole = decode([body]);
    assert_eq!(decode(pieces::any(body, cut)), whole);
    assert_eq!(decode(pieces::single(body)), whole, "byte by byte");
    match whole.end {
        Ok((consumed, true)) => {
            let exact = decode([&body[..consumed]]);
            assert_eq!(exact, whole, "what follows a body does not matter");
            assert!(matches!(
                decode([&body[..consumed - 1]]).end,
                Ok((_, false))
            ));
            let chunk = |byte: &u8| [&b"0001\r\n"[..], &[*byte], b"\r\n"].concat();
            let chunks: Vec<_> = whole.content.iter().map(chunk).collect();
            let again = [&chunks.concat()[..], b"0\r\n\r\n"].concat();
            assert_eq!(decode([&again[..]]).content, whole.content);
        }
        Ok((consumed, false)) => assert_eq!(consumed, body.len(), "all of it may be needed"),
        Err(_) => {}
    }
});

fn decode<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Decoded {
    let mut decoder = ChunkedDecoder::new();
    let mut tracker = BodyTracker::new(Framing::Chunked);
    let (mut content, mut total) = (Vec::new(), 0);
    for piece in pieces {
        let mut from = 0;
        let result = decoder.decode(piece, |range| {
            assert!(from <= range.start && range.start < range.end && range.end <= piece.len());
            from = range.end;
            content.extend_from_slice(&piece[range]);
        });
        assert_eq!(result, tracker.take(piece), "a tracker adds nothing");
        let progress = match result {
            Ok(progress) => progress,
            Err(bad) => {
                assert_eq!(decoder.advance(b"0\r\n\r\n"), Err(bad), "an error stays");
                return Decoded {
                    content,
                    end: Err(bad),
                };
            }
        };
        assert!(from <= progress.consumed && progress.consumed <= piece.len());
        assert_eq!(progress.done, decoder.done());
        total += progress.consumed;
        if progress.done {
            let more = decoder.advance(b"5\r\n");
            assert_eq!(more.map(|progress| progress.consumed), Ok(0));
            break;
        }
        assert_eq!(progress.consumed, piece.len(), "no byte is left behind");
    }
    Decoded {
        content,
        end: Ok((total, decoder.done())),
    }
}
