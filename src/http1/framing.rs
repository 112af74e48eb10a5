//! Where a message's body ends (RFC 9112 6.3), decided once per head, and the walk to that end.
//!
//! | `Content-Length`      | `Transfer-Encoding` | request       | response                 |
//! |-----------------------|---------------------|---------------|--------------------------|
//! | none                  | none                | no body       | until the upstream closes |
//! | one, plain digits     | none                | that many     | that many                |
//! | two, even if equal    | any                 | 400           | refused                  |
//! | not plain digits      | any                 | 400           | refused                  |
//! | one or more           | one or more         | 400           | refused                  |
//! | none                  | `chunked`           | chunked       | chunked                  |
//! | none                  | anything else       | 501           | refused                  |
//! | none                  | a tab beside it     | 501           | refused                  |
//! | none                  | any, in HTTP/1.0    | 400           | refused                  |
//! | spelt with `_`        | spelt with `_`      | 400           | refused                  |
//!
//! An answer to HEAD and one with 1xx, 204 or 304 has no body whatever it declares; what it
//! declares has to be sound nevertheless. RFC 9110 8.6 would let equal lengths be merged: a sender
//! that repeats them is broken or lying, and Discord does neither, so they are refused. A tab may
//! stand where a blank may (RFC 9110 5.6.3), but there are readers that take `chunked` with a tab
//! behind it for no coding at all, and see no body.

use std::fmt;
use std::ops::Range;

use super::Version;
use super::chunked::{BadChunk, ChunkedDecoder, Progress};
use super::fields::Fields;
use super::hop::Role;

/// Largest body length: what signed 64-bit readers can hold too.
const LENGTH_MAX: u64 = i64::MAX as u64;

/// Most digits of a length: those of [`LENGTH_MAX`].
const LENGTH_DIGITS_MAX: usize = 19;

/// How the end of a message's body is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// There is no body.
    None,
    /// This many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// All bytes until the sender closes; in responses only.
    UntilClose,
}

/// Why it cannot be told where a body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadFraming {
    /// `Content-Length` and `Transfer-Encoding` in one head.
    LengthAndCoding,
    /// More than one `Content-Length`, equal or not.
    LengthRepeated,
    /// A `Content-Length` that is not a plain decimal number below 2^63. Leading zeros count as
    /// wrong: some readers take them for octal.
    LengthInvalid,
    /// A transfer coding other than `chunked`, once, with no blanks around it but spaces.
    CodingUnsupported,
    /// `Transfer-Encoding` in an HTTP/1.0 message, which has no such thing.
    CodingInHttp10,
    /// `Content_Length` or `Transfer_Encoding`, which some readers take for the real fields.
    LookAlike,
}

impl BadFraming {
    /// The reason in words, for an answer or a log line.
    pub const fn message(self) -> &'static str {
        match self {
            Self::LengthAndCoding => "Content-Length and Transfer-Encoding exclude each other",
            Self::LengthRepeated => "more than one Content-Length",
            Self::LengthInvalid => "Content-Length is not a decimal number below 2^63",
            Self::CodingUnsupported => "only the transfer coding chunked is supported",
            Self::CodingInHttp10 => "Transfer-Encoding in an HTTP/1.0 message",
            Self::LookAlike => "Content_Length or Transfer_Encoding, spelt with an underscore",
        }
    }
}

impl fmt::Display for BadFraming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// Decides by the table above; `None` if the head declares nothing.
pub(super) fn declared(
    fields: &Fields<'_>,
    version: Version,
) -> Result<Option<Framing>, BadFraming> {
    let mut length = None;
    let mut coding = None;
    let (mut lengths, mut codings) = (0, 0);
    for (at, role) in fields.roles() {
        match role {
            Role::ContentLength => {
                lengths += 1;
                length = Some(fields.value(at));
            }
            Role::TransferEncoding => {
                codings += 1;
                coding = Some(at);
            }
            Role::FramingLookAlike => return Err(BadFraming::LookAlike),
            Role::EndToEnd
            | Role::Host
            | Role::Authorization
            | Role::Connection
            | Role::Expect
            | Role::HopByHop
            | Role::AbortAfter
            | Role::RoutedTo
            | Role::NodePass
            | Role::RequestId
            | Role::NodeRequestId => {}
        }
    }
    match (length, coding) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(BadFraming::LengthAndCoding),
        (Some(_), None) if lengths > 1 => Err(BadFraming::LengthRepeated),
        (Some(value), None) => parse_length(value)
            .map(|n| Some(Framing::Length(n)))
            .ok_or(BadFraming::LengthInvalid),
        (None, Some(_)) if version == Version::Http10 => Err(BadFraming::CodingInHttp10),
        (None, Some(at)) if codings == 1 && is_chunked(fields, at) => Ok(Some(Framing::Chunked)),
        (None, Some(_)) => Err(BadFraming::CodingUnsupported),
    }
}

/// Whether line `at` says `chunked`, to every reader.
fn is_chunked(fields: &Fields<'_>, at: usize) -> bool {
    let line = fields.raw(fields.line_at(at), fields.line_at(at + 1));
    fields.value(at).eq_ignore_ascii_case(b"chunked") && !line.contains(&b'\t')
}

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > LENGTH_DIGITS_MAX || (value[0] == b'0' && value.len() > 1)
    {
        return None;
    }
    value
        .iter()
        // 19 digits stay below 10^19, which 64 bits hold.
        .try_fold(0_u64, |sum, byte| {
            byte.is_ascii_digit()
                .then(|| sum * 10 + u64::from(byte - b'0'))
        })
        .filter(|&length| length <= LENGTH_MAX)
}

/// Follows one body to its end, whatever its framing.
#[derive(Clone, Debug)]
pub struct BodyTracker {
    left: Left,
}

#[derive(Clone, Debug)]
enum Left {
    Bytes(u64),
    Chunks(ChunkedDecoder),
    UntilClose,
}

impl BodyTracker {
    /// A tracker before the first byte of a body framed like this.
    pub const fn new(framing: Framing) -> Self {
        let left = match framing {
            Framing::None => Left::Bytes(0),
            Framing::Length(length) => Left::Bytes(length),
            Framing::Chunked => Left::Chunks(ChunkedDecoder::new()),
            Framing::UntilClose => Left::UntilClose,
        };
        Self { left }
    }

    /// Counts how many bytes of `input` belong to the body, as they stand on the wire.
    ///
    /// # Errors
    /// [`BadChunk`] if a chunked body is broken; the connection cannot be used further.
    pub fn take(&mut self, input: &[u8]) -> Result<Progress, BadChunk> {
        self.decode(input, |_| {})
    }

    /// As [`BodyTracker::take`], and calls `data` with each range of `input` that holds content:
    /// for a receiver that does not know chunks.
    ///
    /// # Errors
    /// [`BadChunk`], possibly after `data` was called for chunks before the bad byte.
    pub fn decode(
        &mut self,
        input: &[u8],
        mut data: impl FnMut(Range<usize>),
    ) -> Result<Progress, BadChunk> {
        let consumed = match &mut self.left {
            Left::Chunks(decoder) => return decoder.decode(input, data),
            Left::Bytes(left) => {
                let here = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= here as u64;
                here
            }
            Left::UntilClose => input.len(),
        };
        if consumed > 0 {
            data(0..consumed);
        }
        Ok(Progress {
            consumed,
            done: self.done(),
        })
    }

    /// Whether the body is over and the next byte belongs to another message.
    pub const fn done(&self) -> bool {
        match &self.left {
            Left::Bytes(left) => *left == 0,
            Left::Chunks(decoder) => decoder.done(),
            Left::UntilClose => false,
        }
    }

    /// Whether the body is whole if the sender closes now.
    pub const fn done_at_close(&self) -> bool {
        matches!(self.left, Left::UntilClose) || self.done()
    }

    /// Bytes still to come, if that is known.
    pub const fn remaining_hint(&self) -> Option<u64> {
        match &self.left {
            Left::Bytes(left) => Some(*left),
            Left::Chunks(decoder) if decoder.done() => Some(0),
            Left::Chunks(_) | Left::UntilClose => None,
        }
    }
}

#[cfg(test)]
mod tests;
