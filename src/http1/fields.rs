//! The header lines of one head, as offsets into the buffer that holds it.
//!
//! ```text
//! buf: METHOD SP target SP HTTP/1.1 CR LF Name: value CR LF Name:value CR LF CR LF body…
//!                                  start ─┘                           end ─┘     └─ len
//! ```
//! A line reaches from its name to the next line's name, so lines that stay are copied together
//! with their neighbours, spacing included.
//!
//! Most lines mean nothing to a relay. Those that do stand in a list of their own, so that whoever
//! asks for roles looks at three lines instead of thirty.

use smallvec::SmallVec;

use super::HEADERS_MAX;
use super::hop::Role;

/// Header lines that are kept without allocating: Discord's answers have 24 to 30.
pub(super) const FIELDS_INLINE: usize = 32;

/// The lines of one head, in order.
pub(super) type Lines = SmallVec<[Line; FIELDS_INLINE]>;

/// The lines with another role than [`Role::EndToEnd`], by their numbers and in order; a head that
/// has more of them than inline is sent by nobody.
pub(super) type Marked = SmallVec<[(u8, Role); 12]>;

const _: () = assert!(HEADERS_MAX <= u8::MAX as usize, "a byte numbers every line");

/// The header lines of a parsed head, in order.
#[derive(Clone)]
pub struct Fields<'b> {
    /// The head, from its first line to the end of the blank line.
    head: &'b [u8],
    places: Places,
}

/// The lines of a head without its bytes: where each of them lies.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) lines: Lines,
    pub(super) marked: Marked,
}

/// One line. Offsets fit because a head has at most 2^16 bytes and ends in CRLF CRLF.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    pub(super) name_at: u16,
    pub(super) name_len: u16,
    pub(super) value_at: u16,
    pub(super) value_len: u16,
}

impl Line {
    fn name<'b>(&self, head: &'b [u8]) -> &'b [u8] {
        &head[self.name_at.into()..][..self.name_len.into()]
    }

    fn value<'b>(&self, head: &'b [u8]) -> &'b [u8] {
        &head[self.value_at.into()..][..self.value_len.into()]
    }
}

impl<'b> Fields<'b> {
    /// The lines of `head`, which ends with its blank line and must be the very bytes that `places`
    /// were found in.
    pub(super) fn new(head: &'b [u8], places: Places) -> Self {
        Self { head, places }
    }

    /// Where the lines lie, without the bytes.
    pub(super) fn places(&self) -> Places {
        let Places { lines, marked } = &self.places;
        Places {
            lines: Lines::from_slice(lines),
            marked: Marked::from_slice(marked),
        }
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.places.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.lines.is_empty()
    }

    /// Names and values in order; values without the blanks around them.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (&'b [u8], &'b [u8])> + '_ {
        let lines = self.places.lines.iter();
        lines.map(|line| (line.name(self.head), line.value(self.head)))
    }

    /// The name of line `at`, which must exist.
    pub(super) fn name(&self, at: usize) -> &'b [u8] {
        self.places.lines[at].name(self.head)
    }

    /// The value of line `at`, which must exist.
    pub(super) fn value(&self, at: usize) -> &'b [u8] {
        self.places.lines[at].value(self.head)
    }

    /// Whether line `at`, which must exist, has no blanks around its value but one space before it.
    pub(super) fn is_tidy(&self, at: usize) -> bool {
        let line = self.places.lines[at];
        let name_end = usize::from(line.name_at) + usize::from(line.name_len);
        let value_end = usize::from(line.value_at) + usize::from(line.value_len);
        matches!(&self.head[name_end..line.value_at.into()], b":" | b": ")
            && value_end + 2 == self.line_at(at + 1)
    }

    /// The lines that mean something to a relay, in order: their numbers and what they mean. All
    /// others are [`Role::EndToEnd`].
    pub(super) fn roles(&self) -> impl Iterator<Item = (usize, Role)> + '_ {
        let marked = self.places.marked.iter();
        marked.map(|&(at, role)| (usize::from(at), role))
    }

    /// The first line with this role, which must not be [`Role::EndToEnd`], not before line `from`.
    pub(super) fn find(&self, role: Role, from: usize) -> Option<usize> {
        let mut roles = self.roles();
        let found = roles.find(|&(at, its)| its == role && at >= from);
        found.map(|(at, _)| at)
    }

    /// Makes line `at`, which must exist and be for the other end, one that ends here.
    pub(super) fn cut(&mut self, at: usize) {
        let marked = &mut self.places.marked;
        let before = marked.partition_point(|&(other, _)| usize::from(other) < at);
        match marked.get_mut(before) {
            Some((other, role)) if usize::from(*other) == at => *role = Role::HopByHop,
            Some(_) | None => marked.insert(before, (at as u8, Role::HopByHop)),
        }
    }

    /// The request line or status line, without its line end.
    pub(super) fn start_line(&self) -> &'b [u8] {
        &self.head[..self.line_at(0) - 2]
    }

    /// Where line `at` begins; for one past the last, where the blank line begins.
    pub(super) fn line_at(&self, at: usize) -> usize {
        self.places
            .lines
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
            .field("lines", &self.len())
            .finish_non_exhaustive()
    }
}
