//! How much memory is in use: what the program holds.
//!
//! What is resident is something else ([`super::system`]): an allocator keeps pages for sizes that were asked for lately, so what is resident
//! follows the busiest moment. What a program holds tells whether something leaks.
//!
//! Cost: an addition without contention for each allocation and each release, and a request that
//! goes its usual way makes none.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicIsize, Ordering};

/// Counters, so that threads seldom share one; a power of two.
const PARTS: usize = 16;

/// One of them, on cache lines of its own.
#[repr(align(128))]
struct Part(AtomicIsize);

static HELD: [Part; PARTS] = [const { Part(AtomicIsize::new(0)) }; PARTS];

thread_local! {
    /// Its address tells threads apart; no allocation stands behind it.
    static HERE: u8 = const { 0 };
}

/// An allocator that counts what it has given out, for `#[global_allocator]`.
#[derive(Debug)]
pub struct Counted<A>(pub A);

fn count(bytes: isize) {
    // A thread that ends has no place of its own any more.
    let part = HERE
        .try_with(|here| std::ptr::from_ref(here).addr() >> 12)
        .unwrap_or(0);
    HELD[part % PARTS].0.fetch_add(bytes, Ordering::Relaxed);
}

// SAFETY: every call goes to `A`, which is sound, with what it came with; counting touches no memory of
// either side.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counted<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { self.0.alloc(layout) };
        if !memory.is_null() {
            count(layout.size() as isize);
        }
        memory
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let memory = unsafe { self.0.alloc_zeroed(layout) };
        if !memory.is_null() {
            count(layout.size() as isize);
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { self.0.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        let moved = unsafe { self.0.realloc(memory, layout, size) };
        if !moved.is_null() {
            count(size as isize - layout.size() as isize);
        }
        moved
    }
}

/// Bytes that the program holds; `None` if its allocator is not [`Counted`].
pub fn held() -> Option<u64> {
    let sum: isize = HELD.iter().map(|part| part.0.load(Ordering::Relaxed)).sum();
    u64::try_from(sum).ok().filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;

    #[test]
    fn what_is_taken_grown_and_given_back_is_counted() {
        let allocator = Counted(System);
        let layout = Layout::from_size_align(1 << 20, 8).unwrap();
        let sum = || {
            HELD.iter()
                .map(|part| part.0.load(Ordering::Relaxed))
                .sum::<isize>()
        };
        // The tests' own allocator is another: nobody else counts here.
        let before = sum();
        // SAFETY: the layouts are those that the memory was taken with.
        unsafe {
            let memory = allocator.alloc(layout);
            assert_eq!(sum() - before, 1 << 20);
            let memory = allocator.realloc(memory, layout, 3 << 20);
            assert_eq!(sum() - before, 3 << 20);
            allocator.dealloc(memory, Layout::from_size_align(3 << 20, 8).unwrap());
            assert_eq!(sum(), before);
            let memory = allocator.alloc_zeroed(layout);
            assert_eq!(sum() - before, 1 << 20);
            allocator.dealloc(memory, layout);
        }
        assert_eq!(sum(), before);
    }
}
