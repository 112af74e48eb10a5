//! Just enough base64 to read the ids that Discord puts in front of its tokens.
//!
//! A bot token starts with the base64 of the bot's user id, an interaction token is the base64 of
//! `interaction:<id>:<secret>`. Libraries disagree about alphabet and padding, and only the first
//! few bytes matter, so this decoder takes both alphabets, stops at padding and writes into a
//! fixed array: no allocation, about 1 ns a byte.

/// Decodes `text` into `out` and returns the decoded part of `out`.
///
/// Both alphabets are taken, padding may be there or not. `None` for a character of neither
/// alphabet, for anything but `=` after padding, for a lone last character (it holds less than a
/// byte), and when `out` is too small.
pub(crate) fn decode<'o>(text: &[u8], out: &'o mut [u8]) -> Option<&'o [u8]> {
    let mut unpadded = text;
    while let [rest @ .., b'='] = unpadded {
        unpadded = rest;
    }
    if unpadded.len() % 4 == 1 {
        return None;
    }
    let (groups, rest) = unpadded.as_chunks::<4>();
    let mut len = 0;
    for group in groups {
        let [a, b, c, d] = group.map(sextet);
        let word = a << 18 | b << 12 | c << 6 | d;
        if a | b | c | d == NO_SEXTET {
            return None;
        }
        let [_, bytes @ ..] = word.to_be_bytes();
        out.get_mut(len..len + 3)?.copy_from_slice(&bytes);
        len += 3;
    }
    // Two symbols hold one more byte, three hold two; the bits behind them mean nothing.
    let mut word = 0;
    for (at, &symbol) in rest.iter().enumerate() {
        let sextet = sextet(symbol);
        if sextet == NO_SEXTET {
            return None;
        }
        word |= sextet << (18 - 6 * at);
    }
    let more = rest.len().saturating_sub(1);
    let [_, bytes @ ..] = word.to_be_bytes();
    out.get_mut(len..len + more)?
        .copy_from_slice(&bytes[..more]);
    Some(&out[..len + more])
}

fn sextet(symbol: u8) -> u32 {
    u32::from(SEXTETS[usize::from(symbol)])
}

/// Marks the bytes of neither alphabet.
const NO_SEXTET: u32 = 0xff;

/// The value of each symbol of both alphabets.
const SEXTETS: [u8; 256] = {
    const COMMON: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut values = [NO_SEXTET as u8; 256];
    let mut value = 0;
    while value < 62 {
        values[COMMON[value as usize] as usize] = value;
        value += 1;
    }
    values[b'+' as usize] = 62;
    values[b'-' as usize] = 62;
    values[b'/' as usize] = 63;
    values[b'_' as usize] = 63;
    values
};

/// Encodes as base64 without padding, in the url-safe alphabet if asked: for tests alone.
#[cfg(test)]
pub(super) fn encode(bytes: &[u8], url_safe: bool) -> String {
    const COMMON: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=group.len()].copy_from_slice(group);
        let word = u32::from_be_bytes(word);
        for at in 0..=group.len() {
            let symbol = usize::try_from((word >> (18 - 6 * at)) & 63).unwrap();
            text.push(match (symbol, url_safe) {
                (62, true) => '-',
                (62, false) => '+',
                (63, true) => '_',
                (63, false) => '/',
                (common, _) => char::from(COMMON[common]),
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_vectors_of_rfc_4648_decode_with_and_without_padding() {
        for (text, plain) in [
            ("", ""),
            ("Zg", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
        ] {
            assert_eq!(
                decode(text.as_bytes(), &mut [0; 8]),
                Some(plain.as_bytes()),
                "{text}"
            );
        }
        for wrong in ["Z", "Zm9vY", "Zg=a", "Z g=", "Zm9v\0", "Z%3D"] {
            assert_eq!(decode(wrong.as_bytes(), &mut [0; 8]), None, "{wrong}");
        }
        assert_eq!(decode(b"Zm9v", &mut [0; 2]), None, "the array is too small");
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes(bytes in prop::collection::vec(any::<u8>(), 0..40), url_safe: bool) {
            let text = encode(&bytes, url_safe);
            let mut room = [0; 40];
            prop_assert_eq!(decode(text.as_bytes(), &mut room), Some(&bytes[..]));
        }
    }
}
