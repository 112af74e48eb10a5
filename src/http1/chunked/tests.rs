use proptest::prelude::*;

use super::*;

/// All data, and how far the body reached; fed in pieces that end at `cuts`.
fn decode(wire: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Progress), BadChunk> {
    let mut decoder = ChunkedDecoder::new();
    let mut content = Vec::new();
    let (mut consumed, mut from) = (0, 0);
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (wire.len() + 1)).collect();
    cuts.push(wire.len());
    cuts.sort_unstable();
    for to in cuts {
        let piece = &wire[from..to];
        let progress = decoder.decode(piece, |range| content.extend_from_slice(&piece[range]))?;
        assert_eq!(progress.done, decoder.done());
        assert!(progress.done || progress.consumed == piece.len());
        consumed += progress.consumed;
        from = to;
    }
    Ok((
        content,
        Progress {
            consumed,
            done: decoder.done(),
        },
    ))
}

fn outcome(wire: &[u8]) -> Result<Progress, BadChunk> {
    ChunkedDecoder::new().advance(wire)
}
/// Whether what stands behind the first `;` is a list of extensions: cut at each `;` outside quotes.
fn extensions_sound(text: &str) -> bool {
    let (mut parts, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for c in text.chars() {
        let inside = quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        match (c, inside, parts.last_mut()) {
            (';', false, _) => parts.push(String::new()),
            (c, _, Some(part)) => part.push(c),
            (_, _, None) => return false,
        }
    }
    let token = |text: &str| {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        !text.is_empty() && text.chars().all(is_token)
    };
    let quotation = |text: &str| {
        let inner = text
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        inner.is_some_and(|inner| {
            let plain = inner.replace("\\\\", "").replace("\\\"", "");
            !plain.contains('"') && inner.chars().all(|c| c == '\t' || (' '..='~').contains(&c))
        })
    };
    let sound = |part: &String| match part.split_once('=') {
        None => token(part),
        Some((name, value)) => token(name) && (token(value) || quotation(value)),
    };
    !quoted && parts.iter().all(sound)
}

/// The obvious reader of a whole body: cuts line by line; `None` if it is not there or not sound.
fn model(wire: &[u8]) -> Option<(Vec<u8>, usize)> {
    fn line(wire: &[u8], at: &mut usize) -> Option<Vec<u8>> {
        let len = wire[*at..].windows(2).position(|pair| pair == b"\r\n")?;
        let line = wire[*at..*at + len].to_vec();
        *at += len + 2;
        (!line.contains(&b'\r') && !line.contains(&b'\n')).then_some(line)
    }
    let (mut content, mut at) = (Vec::new(), 0);
    loop {
        let size_line = line(wire, &mut at)?;
        let text = std::str::from_utf8(&size_line).ok()?;
        let (size, extension) = text.split_once(';').unwrap_or((text, ""));
        let sound = size_line.len() + 2 <= 256
            && (1..=16).contains(&size.len())
            && size.chars().all(|c| c.is_ascii_hexdigit())
            && (extension.is_empty() && !text.contains(';') || extensions_sound(extension));
        let size = usize::try_from(i64::from_str_radix(size, 16).ok().filter(|_| sound)?).ok()?;
        if size == 0 {
            break;
        }
        content.extend_from_slice(wire.get(at..at.checked_add(size)?)?);
        at += size;
        (wire.get(at..at + 2)? == b"\r\n").then_some(())?;
        at += 2;
    }
    let trailers_at = at;
    loop {
        let trailer = line(wire, &mut at)?;
        if trailer.is_empty() {
            return (at - trailers_at <= 8192).then_some((content, at));
        }
        let colon = trailer.iter().position(|&byte| byte == b':')?;
        let name = std::str::from_utf8(&trailer[..colon]).ok()?.to_lowercase();
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let forbidden = [
            "host",
            "content-length",
            "content_length",
            "transfer-encoding",
            "transfer_encoding",
            "authorization",
            "connection",
            "te",
        ];
        let value = &trailer[colon + 1..];
        let sound = !name.is_empty()
            && name.chars().all(token)
            && !forbidden.contains(&name.as_str())
            && value
                .iter()
                .all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
        sound.then_some(())?;
    }
}

#[test]
fn sound_bodies_are_read_to_their_end() {
    for (wire, content) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        (
            "5\r\nhello\r\n1\r\n \r\n05\r\nworld\r\n000\r\n\r\n",
            "hello world",
        ),
        (
            "a;name=value;n=\"quoted; \\\"\"\r\n0123456789\r\n0;last\r\n\r\n",
            "0123456789",
        ),
        ("000000000000000A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("1\r\nx\r\n0\r\nChecksum: a\tb\r\nEmpty:\r\n\r\n", "x"),
        ("0\r\nContent-Length-Hint: 5\r\nHosts: a\r\n\r\n", ""),
    ] {
        let all = format!("{wire}GET / HTTP/1.1\r\n");
        let done = Progress {
            consumed: wire.len(),
            done: true,
        };
        assert_eq!(
            decode(all.as_bytes(), &[]),
            Ok((content.into(), done)),
            "{wire}"
        );
        assert_eq!(
            model(all.as_bytes()),
            Some((content.into(), wire.len())),
            "{wire}"
        );
        for end in 0..wire.len() {
            let partial = Progress {
                consumed: end,
                done: false,
            };
            assert_eq!(
                outcome(&wire.as_bytes()[..end]),
                Ok(partial),
                "{end} of {wire}"
            );
        }
    }
}

#[test]
fn unsound_bodies_are_refused_at_the_byte_that_is_wrong() {
    for (wire, bad) in [
        (" ", BadChunk::Size),
        ("\r", BadChunk::Size),
        ("\n", BadChunk::Size),
        (";", BadChunk::Size),
        ("g", BadChunk::Size),
        ("-", BadChunk::Size),
        ("+", BadChunk::Size),
        ("0x", BadChunk::Size),
        ("5 ", BadChunk::Size),
        ("5\t", BadChunk::Size),
        ("5,", BadChunk::Size),
        ("5\n", BadChunk::LineEnding),
        ("5\r\r", BadChunk::LineEnding),
        ("5\r5", BadChunk::LineEnding),
        ("5;a\n", BadChunk::LineEnding),
        ("5;a\r\r", BadChunk::LineEnding),
        ("5;a\0", BadChunk::Extension),
        ("5;\r", BadChunk::Extension),
        ("5;;", BadChunk::Extension),
        ("5;=", BadChunk::Extension),
        ("5; ", BadChunk::Extension),
        ("5;a ", BadChunk::Extension),
        ("5;a=\r", BadChunk::Extension),
        ("5;a=;", BadChunk::Extension),
        ("5;a=b=", BadChunk::Extension),
        ("5;a=b\"", BadChunk::Extension),
        ("5;a=\"\r", BadChunk::Extension),
        ("5;a=\"\n", BadChunk::LineEnding),
        ("5;a=\"b\\\r", BadChunk::Extension),
        ("5;a=\"b\"c", BadChunk::Extension),
        ("5;\x7f", BadChunk::Extension),
        ("5;é", BadChunk::Extension),
        ("8000000000000000", BadChunk::SizeTooLarge),
        ("ffffffffffffffff", BadChunk::SizeTooLarge),
        ("00000000000000001", BadChunk::SizeTooLarge),
        ("1\r\nab", BadChunk::LineEnding),
        ("1\r\na\n", BadChunk::LineEnding),
        ("1\r\na\rb", BadChunk::LineEnding),
        ("0\r\n\n", BadChunk::Trailer),
        ("0\r\n\rX", BadChunk::LineEnding),
        ("0\r\n:", BadChunk::Trailer),
        ("0\r\n ", BadChunk::Trailer),
        ("0\r\nA: b\r\n ", BadChunk::Trailer),
        ("0\r\nA ", BadChunk::Trailer),
        ("0\r\nA\r", BadChunk::Trailer),
        ("0\r\nA: b\n", BadChunk::LineEnding),
        ("0\r\nA: b\rc", BadChunk::LineEnding),
        ("0\r\nA: \0", BadChunk::Trailer),
        ("0\r\nA: \x7f", BadChunk::Trailer),
        ("0\r\ncontent-Length:", BadChunk::TrailerForbidden),
        ("0\r\nTransfer-Encoding:", BadChunk::TrailerForbidden),
        ("0\r\nA: b\r\nHost:", BadChunk::TrailerForbidden),
        ("0\r\nAuthorization:", BadChunk::TrailerForbidden),
        ("0\r\nContent_Length:", BadChunk::TrailerForbidden),
        ("0\r\nConnection:", BadChunk::TrailerForbidden),
        ("0\r\nExpect:", BadChunk::TrailerForbidden),
        (
            "0\r\nProxy-Authentication-Info:",
            BadChunk::TrailerForbidden,
        ),
    ] {
        let before = wire.char_indices().next_back().unwrap().0;
        assert!(
            outcome(&wire.as_bytes()[..before]).is_ok(),
            "{}",
            wire.escape_debug()
        );
        assert_eq!(
            outcome(wire.as_bytes()),
            Err(bad),
            "{}",
            wire.escape_debug()
        );
    }
}

#[test]
fn the_largest_size_is_2_to_the_63_less_one() {
    let mut decoder = ChunkedDecoder::new();
    let line = b"7fffffffffffffff\r\nabc";
    assert_eq!(
        decoder.advance(line),
        Ok(Progress {
            consumed: line.len(),
            done: false
        })
    );
    assert_eq!(decoder.remaining, i64::MAX as u64 - 3);
}

#[test]
fn a_size_line_has_256_bytes_and_trailers_8_kib() {
    let line = |len: usize| format!("1;{}\r\n", "e".repeat(len - 4));
    assert!(outcome(line(256).as_bytes()).is_ok());
    assert_eq!(outcome(line(257).as_bytes()), Err(BadChunk::LineTooLong));
    // Each line has its own allowance.
    let twice = format!("{0}x\r\n{0}x\r\n0\r\n\r\n", line(256));
    assert!(outcome(twice.as_bytes()).unwrap().done);

    let trailers = |len: usize| format!("0\r\nT: {}\r\n\r\n", "t".repeat(len - 7));
    assert!(outcome(trailers(8192).as_bytes()).unwrap().done);
    assert_eq!(
        outcome(trailers(8193).as_bytes()),
        Err(BadChunk::TrailersTooLong)
    );
    let endless = format!("0\r\n{}", "T: t\r\n".repeat(8192));
    assert_eq!(outcome(endless.as_bytes()), Err(BadChunk::TrailersTooLong));
    let long_name = format!("0\r\n{}", "n".repeat(8193));
    assert_eq!(
        outcome(long_name.as_bytes()),
        Err(BadChunk::TrailersTooLong)
    );
}

#[test]
fn an_error_is_final() {
    let mut decoder = ChunkedDecoder::new();
    assert_eq!(decoder.advance(b"x"), Err(BadChunk::Size));
    assert_eq!(decoder.advance(b"0\r\n\r\n"), Err(BadChunk::Size));
    assert_eq!(decoder.advance(b""), Err(BadChunk::Size));
    assert!(!decoder.done());
}

/// Bodies, most of them sound, some with a byte changed, dropped or doubled.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let extension = prop_oneof![4 => Just(""), 1 => Just(";a=b"), 1 => Just(";a=\"; q\\\"\";b")];
    let data = prop::collection::vec(any::<u8>(), 1..40);
    let chunk = (data, extension, any::<bool>()).prop_map(|(data, extension, upper)| {
        let size = if upper {
            format!("{:X}", data.len())
        } else {
            format!("0{:x}", data.len())
        };
        [
            size.as_bytes(),
            extension.as_bytes(),
            b"\r\n",
            &data,
            b"\r\n",
        ]
        .concat()
    });
    let trailers = prop_oneof![4 => Just(""), 1 => Just("A: b\r\n"), 1 => Just("A:\r\nHos: t\r\n")];
    let body = (prop::collection::vec(chunk, 0..5), trailers, any::<bool>());
    let body = body.prop_map(|(chunks, trailers, more)| {
        let after = if more { "GET" } else { "" };
        [
            &chunks.concat()[..],
            b"0\r\n",
            trailers.as_bytes(),
            b"\r\n",
            after.as_bytes(),
        ]
        .concat()
    });
    let byte = prop_oneof![prop::sample::select(&b"\r\n; 0fA:\t"[..]), any::<u8>()];
    let change = prop::option::of((any::<prop::sample::Index>(), byte, 0..3));
    (body, change).prop_map(|(mut wire, change)| {
        if let Some((at, byte, how)) = change {
            let at = at.index(wire.len());
            match how {
                0 => wire[at] = byte,
                1 => wire.insert(at, byte),
                _ => drop(wire.remove(at)),
            }
        }
        wire
    })
}

proptest! {
    #[test]
    fn the_decoder_agrees_with_the_obvious_reader_however_the_bytes_arrive(
        wire in wire(),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let whole = decode(&wire, &[]);
        let pieces = decode(&wire, &cuts);
        prop_assert_eq!(&pieces, &whole);
        let read = whole.ok().filter(|(_, progress)| progress.done);
        prop_assert_eq!(read.map(|(content, progress)| (content, progress.consumed)), model(&wire));
    }

    #[test]
    fn what_is_refused_stays_refused_whatever_follows(
        wire in wire(),
        more in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        if let Err(bad) = outcome(&wire) {
            prop_assert_eq!(model(&wire), None);
            prop_assert_eq!(outcome(&[wire, more].concat()), Err(bad));
        }
    }
}
