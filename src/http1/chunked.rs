//! The chunked transfer coding (RFC 9112 7.1), decoded in place.
//!
//! ```text
//! size [;extension] CR LF   data × size   CR LF   …   0 CR LF   *( trailer CR LF )   CR LF
//! ```
//! Nothing is copied or kept but a few counters: a relay that stays chunked passes on the very
//! bytes, one that must not asks for the ranges of data. Since the bytes go on verbatim, whoever
//! reads them next has to see the same chunks, so the grammar is taken literally: no blanks around
//! the size, no bare LF, no control bytes, no trailer that would frame, route or authorise.

use std::fmt;
use std::ops::Range;

use super::hop::Role;

/// Longest size line, its extensions and line end included. Nobody sends extensions; 256 leaves
/// room for one and keeps a sender from hiding a stream in them.
const SIZE_LINE_BYTES_MAX: u16 = 256;

/// Most hexadecimal digits of a size: those of 64 bits, leading zeros included, since a reader
/// that drops digits beyond would see another chunk.
const SIZE_DIGITS_MAX: u8 = 16;

/// Largest size of one chunk: what signed 64-bit readers can hold too.
const SIZE_MAX: u64 = i64::MAX as u64;

/// All trailers together with the last line end. None are expected; 8 KiB is what other servers
/// give to a single header line.
const TRAILER_BYTES_MAX: u16 = 8 * 1024;

/// The longest name that has a [`Role`]. Such fields mean something else once a reader merges
/// trailers into headers, and are no trailers (RFC 9110 6.5.1).
const FORBIDDEN_NAME_MAX: usize = 25;

/// How far a body has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// How many of the given bytes belong to this body, from the first on.
    pub consumed: usize,
    /// Whether the body ends with them; what follows is another message.
    pub done: bool,
}

/// Why bytes are not a chunked body. The connection they came from cannot be used further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadChunk {
    /// No size, or other bytes in it than hexadecimal digits.
    Size,
    /// The size needs more than 16 digits or does not fit 63 bits.
    SizeTooLarge,
    /// A size line of more than 256 bytes.
    LineTooLong,
    /// An extension that is not `;name`, `;name=token` or `;name="text"`, without blanks and in
    /// visible ASCII.
    Extension,
    /// A line or chunk that does not end in CRLF.
    LineEnding,
    /// A trailer that is no field line.
    Trailer,
    /// A trailer that would frame, route or authorise.
    TrailerForbidden,
    /// Trailers of more than 8 KiB.
    TrailersTooLong,
}

impl BadChunk {
    /// The reason in words, for an answer or a log line.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Size => "chunk size is not a hexadecimal number",
            Self::SizeTooLarge => "chunk size is too large",
            Self::LineTooLong => "chunk size line is too long",
            Self::Extension => "chunk extension is malformed",
            Self::LineEnding => "chunk does not end in CRLF",
            Self::Trailer => "trailer is malformed",
            Self::TrailerForbidden => "trailer field is not allowed",
            Self::TrailersTooLong => "trailers are too long",
        }
    }
}

impl fmt::Display for BadChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for BadChunk {}

/// What the next byte has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Size,
    Extension(Extension),
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
    Failed(BadChunk),
}

/// Where in an extension (RFC 9112 7.1.1) the next byte stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extension {
    NameStart,
    Name,
    ValueStart,
    Value,
    Quoted,
    Escaped,
    QuotedEnd,
}

/// An incremental decoder of one chunked body.
///
/// Bytes may arrive in any pieces; after an error every further call returns that error.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// The size being read, then the data of this chunk still to come: zero before each size.
    remaining: u64,
    digits: u8,
    /// Bytes of the current size line, or of the trailers.
    line_bytes: u16,
    /// The current trailer's name, as far as a forbidden one could reach.
    name: [u8; FORBIDDEN_NAME_MAX],
    /// Its whole length; [`TRAILER_BYTES_MAX`] bounds it.
    name_len: u16,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkedDecoder {
    /// A decoder before the first size.
    pub const fn new() -> Self {
        Self {
            state: State::Size,
            remaining: 0,
            digits: 0,
            line_bytes: 0,
            name: [0; FORBIDDEN_NAME_MAX],
            name_len: 0,
        }
    }

    /// Whether the last trailer's line end has been seen.
    pub const fn done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Counts how many bytes of `input` belong to the body: sizes, data, trailers and all.
    ///
    /// # Errors
    /// [`BadChunk`] if they are not chunked coding; none of `input` should be relayed then.
    pub fn advance(&mut self, input: &[u8]) -> Result<Progress, BadChunk> {
        self.decode(input, |_| {})
    }

    /// As [`ChunkedDecoder::advance`], and calls `data` with each range of `input` that holds
    /// content.
    ///
    /// # Errors
    /// [`BadChunk`], possibly after `data` was called for chunks before the bad byte.
    pub fn decode(
        &mut self,
        input: &[u8],
        mut data: impl FnMut(Range<usize>),
    ) -> Result<Progress, BadChunk> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let here = usize::try_from(self.remaining)
                    .map_or(input.len() - at, |left| left.min(input.len() - at));
                data(at..at + here);
                at += here;
                self.remaining -= here as u64;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            match self.step(input[at]) {
                Ok(next) => self.state = next,
                Err(bad) => {
                    self.state = State::Failed(bad);
                    return Err(bad);
                }
            }
            at += 1;
        }
        match self.state {
            State::Failed(bad) => Err(bad),
            _ => Ok(Progress {
                consumed: at,
                done: self.done(),
            }),
        }
    }

    /// Takes one byte outside data.
    fn step(&mut self, byte: u8) -> Result<State, BadChunk> {
        match self.state {
            State::Size => {
                self.count(SIZE_LINE_BYTES_MAX, BadChunk::LineTooLong)?;
                self.size(byte)
            }
            State::Extension(at) => {
                self.count(SIZE_LINE_BYTES_MAX, BadChunk::LineTooLong)?;
                extension(at, byte)
            }
            State::SizeLf => {
                self.count(SIZE_LINE_BYTES_MAX, BadChunk::LineTooLong)?;
                self.line_bytes = 0;
                self.digits = 0;
                let next = if self.remaining == 0 {
                    State::TrailerStart
                } else {
                    State::Data
                };
                expect(byte, b'\n', next)
            }
            State::DataCr => expect(byte, b'\r', State::DataLf),
            State::DataLf => expect(byte, b'\n', State::Size),
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLf
            | State::EndLf => {
                self.count(TRAILER_BYTES_MAX, BadChunk::TrailersTooLong)?;
                self.trailer(byte)
            }
            // `decode` takes no byte in these states.
            State::Data | State::Done => Ok(self.state),
            State::Failed(bad) => Err(bad),
        }
    }

    /// Takes one byte of a size.
    fn size(&mut self, byte: u8) -> Result<State, BadChunk> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b';' if self.digits > 0 => return Ok(State::Extension(Extension::NameStart)),
            b'\r' if self.digits > 0 => return Ok(State::SizeLf),
            b'\n' if self.digits > 0 => return Err(BadChunk::LineEnding),
            _ => return Err(BadChunk::Size),
        };
        self.digits += 1;
        // 16 digits fill 64 bits, so the shift loses nothing before the limit is seen.
        self.remaining = self.remaining << 4 | u64::from(digit);
        if self.digits > SIZE_DIGITS_MAX || self.remaining > SIZE_MAX {
            return Err(BadChunk::SizeTooLarge);
        }
        Ok(State::Size)
    }

    /// Takes one byte of the trailer section.
    fn trailer(&mut self, byte: u8) -> Result<State, BadChunk> {
        match self.state {
            State::TrailerStart => {
                if byte == b'\r' {
                    return Ok(State::EndLf);
                }
                self.name_len = 0;
                self.trailer_name(byte)
            }
            State::TrailerName if byte == b':' => {
                let name = self.name.get(..self.name_len.into()).unwrap_or_default();
                if !matches!(Role::of(name), Role::EndToEnd | Role::RequestId) {
                    return Err(BadChunk::TrailerForbidden);
                }
                Ok(State::TrailerValue)
            }
            State::TrailerName => self.trailer_name(byte),
            State::TrailerValue => match byte {
                b'\r' => Ok(State::TrailerLf),
                b'\n' => Err(BadChunk::LineEnding),
                b'\t' | b' '..=b'~' | 0x80.. => Ok(State::TrailerValue),
                _ => Err(BadChunk::Trailer),
            },
            State::TrailerLf => expect(byte, b'\n', State::TrailerStart),
            State::EndLf => expect(byte, b'\n', State::Done),
            State::Size
            | State::Extension(_)
            | State::SizeLf
            | State::Data
            | State::DataCr
            | State::DataLf
            | State::Done
            | State::Failed(_) => Ok(self.state),
        }
    }

    fn trailer_name(&mut self, byte: u8) -> Result<State, BadChunk> {
        if !is_token(byte) {
            return Err(BadChunk::Trailer);
        }
        if let Some(slot) = self.name.get_mut(usize::from(self.name_len)) {
            *slot = byte;
        }
        self.name_len += 1;
        Ok(State::TrailerName)
    }

    fn count(&mut self, max: u16, bad: BadChunk) -> Result<(), BadChunk> {
        self.line_bytes += 1;
        if self.line_bytes > max {
            Err(bad)
        } else {
            Ok(())
        }
    }
}

/// Takes one byte of an extension.
fn extension(at: Extension, byte: u8) -> Result<State, BadChunk> {
    use Extension::{Escaped, Name, NameStart, Quoted, QuotedEnd, Value, ValueStart};
    let next = match (at, byte) {
        (_, b'\n') => return Err(BadChunk::LineEnding),
        (Name | Value | QuotedEnd, b'\r') => return Ok(State::SizeLf),
        (Name | Value | QuotedEnd, b';') => NameStart,
        (Name, b'=') => ValueStart,
        (ValueStart, b'"') => Quoted,
        (Quoted, b'"') => QuotedEnd,
        (Quoted, b'\\') => Escaped,
        (Quoted | Escaped, b'\t' | b' '..=b'~') => Quoted,
        (NameStart | Name, byte) if is_token(byte) => Name,
        (ValueStart | Value, byte) if is_token(byte) => Value,
        _ => return Err(BadChunk::Extension),
    };
    Ok(State::Extension(next))
}

fn expect(byte: u8, wanted: u8, next: State) -> Result<State, BadChunk> {
    if byte == wanted {
        Ok(next)
    } else {
        Err(BadChunk::LineEnding)
    }
}

/// Whether `byte` may stand in a field name (RFC 9110 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
