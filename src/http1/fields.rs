//! The header lines of one head, as offsets into the buffer that holds it.
//!
//! ```text
//! buf: METHOD SP target SP HTTP/1.1 CR LF Name: value CR LF Name:value CR LF CR LF body…
//!                                  start ─┘                           end ─┘     └─ len
//! ```
//! A line reaches from its name to the next line's name, so lines that stay are copied together
//! with their neighbours, spacing included. That needs each line to end in CRLF, which
//! [`Fields::locate`] checks: httparse takes a bare LF as well.

use smallvec::SmallVec;

use super::hop::Role;

/// Header lines that are kept without allocating: Discord's answers have about 30.
pub(super) const FIELDS_INLINE: usize = 48;

/// A line did not end in CRLF.
#[derive(Debug)]
pub(super) struct BareLineFeed;

/// The header lines of a parsed head, in order.
#[derive(Clone)]
pub struct Fields<'b> {
    /// The head, from its first line to the end of the blank line.
    head: &'b [u8],
    lines: SmallVec<[Line; FIELDS_INLINE]>,
}

/// The lines of a head without its bytes: where each of them lies.
#[derive(Clone, Debug)]
pub(super) struct Places {
    lines: SmallVec<[Line; FIELDS_INLINE]>,
}

/// One line. Offsets fit because a head has at most 2^16 bytes and ends in CRLF CRLF.
#[derive(Clone, Copy, Debug)]
struct Line {
    name_at: u16,
    name_len: u16,
    value_at: u16,
    value_len: u16,
    role: Role,
}

impl<'b> Fields<'b> {
    /// Finds where the parsed `headers` lie in `head`, which ends with its blank line.
    ///
    /// `headers` must be what httparse found in this very slice: between a value and the next
    /// name lie only blanks and one line end, and so the byte two before a name tells which.
    pub(super) fn locate(
        head: &'b [u8],
        headers: &[httparse::Header<'b>],
    ) -> Result<Self, BareLineFeed> {
        if !head.ends_with(b"\r\n\r\n") {
            return Err(BareLineFeed);
        }
        let mut lines = SmallVec::with_capacity(headers.len());
        for header in headers {
            let name_at = offset(head, header.name.as_bytes());
            let value_at = offset(head, header.value);
            if head.get(name_at.wrapping_sub(2)..name_at) != Some(b"\r\n") {
                return Err(BareLineFeed);
            }
            lines.push(Line {
                name_at: name_at as u16,
                name_len: header.name.len() as u16,
                value_at: value_at as u16,
                value_len: header.value.len() as u16,
                role: Role::of(header.name.as_bytes()),
            });
        }
        Ok(Self { head, lines })
    }

    /// Where the lines lie, without the bytes.
    pub(super) fn places(&self) -> Places {
        Places {
            lines: SmallVec::from_slice(&self.lines),
        }
    }

    /// The lines of `head`, which must be the very bytes that `places` were found in.
    pub(super) fn at(head: &'b [u8], places: &Places) -> Self {
        Self {
            head,
            lines: SmallVec::from_slice(&places.lines),
        }
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Names and values in order; values without the blanks around them.
    pub fn iter(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + '_ {
        (0..self.len()).map(|at| (self.name(at), self.value(at)))
    }

    /// The name of line `at`, which must exist.
    pub(super) fn name(&self, at: usize) -> &'b [u8] {
        let line = self.lines[at];
        &self.head[line.name_at.into()..][..line.name_len.into()]
    }

    /// The value of line `at`, which must exist.
    pub(super) fn value(&self, at: usize) -> &'b [u8] {
        let line = self.lines[at];
        &self.head[line.value_at.into()..][..line.value_len.into()]
    }

    /// Whether line `at`, which must exist, has no blanks around its value but one space before it.
    pub(super) fn is_tidy(&self, at: usize) -> bool {
        let line = self.lines[at];
        let name_end = usize::from(line.name_at) + usize::from(line.name_len);
        let value_end = usize::from(line.value_at) + usize::from(line.value_len);
        matches!(&self.head[name_end..line.value_at.into()], b":" | b": ")
            && value_end + 2 == self.line_at(at + 1)
    }

    /// What each line means to a relay, in order, with its index.
    pub(super) fn roles(&self) -> impl Iterator<Item = (usize, Role)> + '_ {
        self.lines.iter().map(|line| line.role).enumerate()
    }

    /// The first line with this role, not before line `from`.
    pub(super) fn find(&self, role: Role, from: usize) -> Option<usize> {
        let rest = self.lines.get(from..)?;
        Some(from + rest.iter().position(|line| line.role == role)?)
    }

    /// Changes what line `at`, which must exist, means.
    pub(super) fn set_role(&mut self, at: usize, role: Role) {
        self.lines[at].role = role;
    }

    /// The request line or status line, without its line end.
    pub(super) fn start_line(&self) -> &'b [u8] {
        &self.head[..self.line_at(0) - 2]
    }

    /// Where line `at` begins; for one past the last, where the blank line begins.
    pub(super) fn line_at(&self, at: usize) -> usize {
        self.lines
            .get(at)
            .map_or(self.head.len() - 2, |line| line.name_at.into())
    }

    /// The bytes of the head between two offsets from [`Fields::line_at`].
    pub(super) fn raw(&self, from: usize, to: usize) -> &'b [u8] {
        &self.head[from..to]
    }

    /// Bytes of the whole head.
    pub(super) fn head_len(&self) -> usize {
        self.head.len()
    }
}

/// Counts only: header values hold tokens, and tokens do not belong into logs.
impl std::fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fields")
            .field("lines", &self.lines.len())
            .finish_non_exhaustive()
    }
}

/// Where `part`, a subslice of `whole`, begins.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr())
}
