//! Pooled byte buffers.
//!
//! ```text
//!  0        start            len            capacity
//!  ├─consumed─┼────unread──────┼────spare─────┤
//! ```
//!
//! A [`Buf`] borrows its memory from a free list of its thread when it is first written to and
//! gives it back when dropped or emptied by [`Buf::release`], so a connection that idles holds
//! nothing. Taking and giving back cost a push and a pop; the list keeps at most
//! [`POOLED_MAX`] buffers, the rest go back to the allocator. What a burst left behind and nobody
//! needed since goes back, too: [`trim`].

use std::cell::RefCell;

/// Room of a pooled buffer: one full TLS record (16,384 bytes of plaintext, up to 256 of
/// expansion, 5 of header: RFC 8446 5.2) and the start of the next, so that a record never has to
/// be read in two rounds because the buffer was full.
pub const BUFFER_BYTES: usize = 20 * 1024;

/// Free buffers a thread keeps: of 256 exchanges at once two each, 10 MiB at most. Of a buffer only
/// the pages that bytes came to are resident.
pub const POOLED_MAX: usize = 512;

/// Free buffers that [`trim`] leaves: 320 KiB, enough for a few exchanges without the allocator.
pub const POOLED_KEPT: usize = 16;

thread_local! {
    static FREE: RefCell<Free> = const { RefCell::new(Free::new()) };
}

/// A thread's free list; the buffer given back last is taken first.
struct Free {
    buffers: Vec<Vec<u8>>,
    /// The fewest that were free at a time since the last [`trim`]: so many were not needed.
    unneeded: usize,
}

impl Free {
    const fn new() -> Self {
        Self {
            buffers: Vec::new(),
            unneeded: 0,
        }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop();
        self.unneeded = self.unneeded.min(self.buffers.len());
        buffer
    }

    fn give(&mut self, buffer: Vec<u8>) {
        if self.buffers.len() < POOLED_MAX {
            self.buffers.push(buffer);
        }
    }

    fn trim(&mut self) -> bool {
        let surplus = self.buffers.len().saturating_sub(POOLED_KEPT);
        // The first were given back longest ago.
        self.buffers.drain(..self.unneeded.min(surplus));
        self.unneeded = self.buffers.len();
        self.buffers.len() > POOLED_KEPT
    }
}

/// Frees the buffers of this thread that were free all the time since the last call, but for
/// [`POOLED_KEPT`]. Whether there are more, which another call will free if they are not needed.
pub fn trim() -> bool {
    FREE.with_borrow_mut(Free::trim)
}

/// Whether [`trim`] has something to look at.
pub fn has_surplus() -> bool {
    FREE.with_borrow(|free| free.buffers.len() > POOLED_KEPT)
}

/// A growable byte queue whose memory comes from the thread's pool.
#[derive(Debug, Default)]
pub struct Buf {
    bytes: Vec<u8>,
    /// First unread byte. Invariant: `start <= bytes.len()`.
    start: usize,
}

impl Buf {
    /// An empty buffer that holds no memory yet.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
        }
    }

    /// The unread bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The unread bytes, to be decrypted in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// How many bytes are unread.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing is unread.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Marks the first `count` unread bytes as read.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.start += count;
        if self.start >= self.bytes.len() {
            self.clear();
        }
    }

    /// Forgets all bytes, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    /// Drops everything after the first `len` unread bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len);
    }

    /// Appends `bytes`.
    pub fn push(&mut self, bytes: &[u8]) {
        self.writable().extend_from_slice(bytes);
    }

    /// The vector behind the queue, for encoders that append. The consumed part is dropped first
    /// when the queue is empty.
    pub fn writable(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = take();
        }
        &mut self.bytes
    }

    /// Appends `room` zero bytes, lets `fill` write into them and keeps as many as it says.
    pub fn append_with<E>(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let bytes = self.writable();
        let before = bytes.len();
        bytes.resize(before + room, 0);
        let written = fill(&mut bytes[before..]);
        bytes.truncate(before + written.as_ref().map_or(0, |&n| n));
        written
    }

    /// Makes sure that at least `room` more bytes fit: first by moving the unread bytes to the
    /// front, then by growing.
    pub fn reserve(&mut self, room: usize) {
        let bytes = self.writable();
        if bytes.capacity() - bytes.len() < room && self.start > 0 {
            let start = self.start;
            self.bytes.drain(..start);
            self.start = 0;
        }
        self.bytes.reserve(room);
    }

    /// Gives the memory back if nothing is unread.
    pub fn release(&mut self) {
        if self.is_empty() {
            give(std::mem::take(&mut self.bytes));
            self.start = 0;
        }
    }

    /// Moves the vector and the start of the unread bytes out, for an operation that owns its
    /// buffer until it completes. [`Buf::restore`] brings them back.
    pub(super) fn lend(&mut self) -> (Vec<u8>, usize) {
        (
            std::mem::take(&mut self.bytes),
            std::mem::take(&mut self.start),
        )
    }

    /// Takes back what [`Buf::lend`] gave away.
    pub(super) fn restore(&mut self, bytes: Vec<u8>, start: usize) {
        debug_assert!(start <= bytes.len());
        self.bytes = bytes;
        self.start = start;
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.bytes));
    }
}

fn take() -> Vec<u8> {
    FREE.with_borrow_mut(Free::take)
        .unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
}

fn give(mut bytes: Vec<u8>) {
    // A buffer that grew for an unusually large head goes back to the allocator.
    if bytes.capacity() == BUFFER_BYTES {
        bytes.clear();
        // The thread may be ending and its list be gone: then the vector is simply freed.
        let _ = FREE.try_with(|free| free.borrow_mut().give(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_taken_at_the_first_byte_and_given_back_when_empty() {
        let mut buf = Buf::new();
        assert_eq!(buf.bytes.capacity(), 0);
        buf.push(b"abcdef");
        let memory = buf.bytes.as_ptr();
        buf.consume(2);
        assert_eq!(buf.as_slice(), b"cdef");
        buf.release();
        assert_eq!(buf.as_slice(), b"cdef", "unread bytes are never released");
        buf.consume(4);
        buf.release();
        assert_eq!(buf.bytes.capacity(), 0);
        let mut other = Buf::new();
        other.push(b"x");
        assert_eq!(
            other.bytes.as_ptr(),
            memory,
            "the next buffer reuses the memory"
        );
    }

    #[test]
    fn what_was_free_all_the_time_is_freed_and_what_was_needed_is_kept() {
        let list = |count: usize| (0..count).map(|_| Buf::new()).collect::<Vec<_>>();
        let used = |count: usize| {
            let mut all = list(count);
            all.iter_mut().for_each(|buf| buf.push(b"x"));
            all
        };
        let free = || FREE.with_borrow(|free| free.buffers.len());
        drop(used(100));
        assert!(trim(), "all were needed since the last time");
        assert_eq!(free(), 100);
        drop(used(40));
        assert!(trim());
        assert_eq!(free(), 40);
        drop(used(3));
        assert!(!trim() && !has_surplus());
        assert_eq!(free(), POOLED_KEPT);
    }

    #[test]
    fn reserve_moves_unread_bytes_to_the_front_before_it_grows() {
        let mut buf = Buf::new();
        buf.push(&vec![7; BUFFER_BYTES]);
        buf.consume(BUFFER_BYTES - 3);
        buf.reserve(100);
        assert_eq!(buf.as_slice(), [7, 7, 7]);
        assert_eq!(buf.bytes.capacity(), BUFFER_BYTES);
        buf.reserve(BUFFER_BYTES);
        assert!(buf.bytes.capacity() > BUFFER_BYTES);
        assert_eq!(buf.as_slice(), [7, 7, 7]);
    }

    #[test]
    fn append_with_keeps_what_was_written_and_nothing_after_an_error() {
        let mut buf = Buf::new();
        buf.push(b"ab");
        assert_eq!(
            buf.append_with(10, |room| {
                room[0] = b'c';
                Ok::<_, ()>(1)
            }),
            Ok(1)
        );
        assert_eq!(buf.as_slice(), b"abc");
        assert_eq!(buf.append_with(10, |_| Err(5)), Err(5));
        assert_eq!(buf.as_slice(), b"abc");
    }
}
