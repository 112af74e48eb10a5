//! One walk over a head's lines: where they end, what they are made of, and what each means here.
//!
//! ```text
//! Name: value CR LF        run of token bytes ─▶ ':' ─▶ blanks ─▶ run of value bytes ─▶ CR LF
//! ```
//! Strict from the first byte: a line ends in CRLF and nothing else, names are tokens right up to
//! their colon, values hold no control bytes but tabs (RFC 9112 2.2, 5.1; RFC 9110 5.5). The tests
//! hold it against `httparse`.
//!
//! **Cost.** Runs are looked at 16 and 8 bytes at once, in loops that compilers turn into vector
//! instructions: about 3,000 instructions for the 2 KiB and 24 lines of an answer.

use super::fields::{Line, Places};
use super::hop::Role;
use super::{HEADERS_MAX, Parse, Version};

/// What is wrong with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadLine {
    /// Not the grammar.
    Malformed,
    /// It ends in LF alone.
    LineEnding,
    /// There are more than [`HEADERS_MAX`].
    TooMany,
}

/// Reads the header lines of `buf` from offset `from` on, where the first begins, into `places`,
/// which is empty; the offset behind the blank line. `buf` must not be longer than 16-bit offsets
/// reach.
#[inline]
pub(super) fn read(buf: &[u8], from: usize, places: &mut Places) -> Parse<usize, BadLine> {
    let mut lines = [Line::default(); HEADERS_MAX];
    let mut count = 0;
    let mut name_at = from;
    loop {
        let name_len = token_len(&buf[name_at..]);
        let colon = name_at + name_len;
        if name_len == 0 || buf.get(colon) != Some(&b':') {
            places.lines.extend_from_slice(&lines[..count]);
            return not_a_field(buf, name_at, colon);
        }
        let (mut from, mut to) = (colon + 1, text_end(buf, colon + 1));
        if buf[to..].first_chunk() != Some(b"\r\n") {
            return line_end(buf, to);
        }
        let next_at = to + 2;
        let is_blank = |at: usize| matches!(buf[at], b' ' | b'\t');
        while from < to && is_blank(from) {
            from += 1;
        }
        while from < to && is_blank(to - 1) {
            to -= 1;
        }
        let Some(line) = lines.get_mut(count) else {
            return Parse::Invalid(BadLine::TooMany);
        };
        *line = Line {
            name_at: name_at as u16,
            name_len: name_len as u16,
            value_at: from as u16,
            value_len: (to - from) as u16,
        };
        let role = Role::of(&buf[name_at..colon]);
        if role != Role::EndToEnd {
            places.marked.push((count as u8, role));
        }
        count += 1;
        name_at = next_at;
    }
}

/// What stands at `at` instead of a name with a colon: the blank line, if all is well. The name,
/// perhaps of no length, ends at `name_end`.
#[cold]
fn not_a_field(buf: &[u8], at: usize, name_end: usize) -> Parse<usize, BadLine> {
    match line_end(buf, at) {
        Parse::Invalid(_) if name_end == buf.len() => Parse::Partial,
        Parse::Invalid(_) if name_end > at => Parse::Invalid(BadLine::Malformed),
        ended => ended,
    }
}

/// The version at `at`, and what follows it.
pub(super) fn version(buf: &[u8], at: usize) -> Parse<(Version, usize), BadVersion> {
    const PREFIX: &[u8] = b"HTTP/";
    let rest = &buf[at..];
    let Some(named) = rest.first_chunk::<8>() else {
        return if PREFIX.starts_with(&rest[..rest.len().min(PREFIX.len())]) {
            Parse::Partial
        } else {
            Parse::Invalid(BadVersion::NotHttp)
        };
    };
    match named {
        b"HTTP/1.1" => Parse::Complete((Version::Http11, at + 8)),
        b"HTTP/1.0" => Parse::Complete((Version::Http10, at + 8)),
        other if other.starts_with(PREFIX) => Parse::Invalid(BadVersion::Unknown),
        _ => Parse::Invalid(BadVersion::NotHttp),
    }
}

/// Why [`version`] found none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadVersion {
    /// HTTP, and neither 1.0 nor 1.1.
    Unknown,
    /// Something else.
    NotHttp,
}

/// The offset behind the CRLF at `at`.
#[inline]
pub(super) fn line_end(buf: &[u8], at: usize) -> Parse<usize, BadLine> {
    let rest = &buf[at..];
    if rest.first_chunk() == Some(b"\r\n") {
        return Parse::Complete(at + 2);
    }
    match rest {
        [] | [b'\r'] => Parse::Partial,
        [b'\n', ..] => Parse::Invalid(BadLine::LineEnding),
        _ => Parse::Invalid(BadLine::Malformed),
    }
}

/// Where the text that begins at `at` ends: at the first control byte but tabs, or with `buf`.
#[inline(always)]
pub(super) fn text_end(buf: &[u8], mut at: usize) -> usize {
    loop {
        at += printable_len(&buf[at..]);
        if buf.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
}

/// How many bytes come before the first control byte.
#[inline(always)]
fn printable_len(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((chunk, after)) = rest.split_first_chunk::<16>() {
        // Without leaving early, so that all of them are looked at in one go.
        let is_control = |byte: u8| (byte < b' ') | (byte == 0x7f);
        if chunk
            .iter()
            .fold(false, |any, &byte| any | is_control(byte))
        {
            break;
        }
        rest = after;
    }
    while let Some((&chunk, after)) = rest.split_first_chunk() {
        let marks = mark_controls(u64::from_le_bytes(chunk));
        if marks != 0 {
            return bytes.len() - rest.len() + marks.trailing_zeros() as usize / 8;
        }
        rest = after;
    }
    let last = rest.iter().position(u8::is_ascii_control);
    bytes.len() - rest.len() + last.unwrap_or(rest.len())
}

/// The highest bit of the lowest control byte, perhaps with bits of higher bytes; 0 if there is
/// none.
const fn mark_controls(word: u64) -> u64 {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    // Taking 32 from a byte below it, or 1 from nought, borrows; what is borrowed from is behind.
    let below_space = word.wrapping_sub(EACH * 0x20);
    let delete = (word ^ (EACH * 0x7f)).wrapping_sub(EACH);
    (below_space | delete) & !word & (EACH * 0x80)
}

/// How many bytes are a token's (RFC 9110 5.6.2).
#[inline]
pub(super) fn token_len(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        for (ahead, &byte) in chunk.iter().enumerate() {
            if !IN_TOKEN[usize::from(byte)] {
                return bytes.len() - rest.len() + ahead;
            }
        }
        rest = after;
    }
    let last = rest.iter().position(|&byte| !IN_TOKEN[usize::from(byte)]);
    bytes.len() - rest.len() + last.unwrap_or(rest.len())
}

const IN_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(
            byte as u8,
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.'
                | b'^'..=b'`' | b'|' | b'~'
        );
        byte += 1;
    }
    table
};

/// How many bytes come before the first blank, control byte or byte beyond ASCII.
#[inline]
pub(super) fn graphic_len(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((chunk, after)) = rest.split_first_chunk::<16>() {
        if !chunk
            .iter()
            .fold(true, |all, byte| all & byte.is_ascii_graphic())
        {
            break;
        }
        rest = after;
    }
    let last = rest.iter().position(|byte| !byte.is_ascii_graphic());
    bytes.len() - rest.len() + last.unwrap_or(rest.len())
}

#[cfg(test)]
mod tests;
