//! Storage in fixed pieces, addressed by small numbers.
//!
//! A `Vec` that grows copies everything it holds; with a million buckets that is a pause of tens of
//! milliseconds for whoever happens to insert. An [`Arena`] grows by one chunk at a time and never
//! moves what it holds. An access is two indexed loads.

use std::ops::Range;

const CHUNK_BITS: u32 = 8;
/// Items of a chunk: small enough that a quiet shard costs little, large enough that the list of
/// chunks stays in the cache with a million items.
const CHUNK: usize = 1 << CHUNK_BITS;

/// Items under stable `u32` indices. Indices are used again after [`Arena::remove`].
pub(super) struct Arena<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    /// Indices that were ever given out; all of them lie below.
    end: u32,
}

impl<T> Arena<T> {
    pub(super) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            end: 0,
        }
    }

    /// Items held.
    pub(super) fn len(&self) -> usize {
        self.end as usize - self.free.len()
    }

    /// One past the highest index ever given out.
    pub(super) const fn end(&self) -> u32 {
        self.end
    }

    /// The `batch` indices from `from` on, as far as any were given out; and where to go on.
    pub(super) fn bite(&self, from: u32, batch: u32) -> (Range<u32>, Option<u32>) {
        let end = self.end.min(from.saturating_add(batch));
        (from..end, (end < self.end).then_some(end))
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self.chunks[(index >> CHUNK_BITS) as usize][index as usize % CHUNK] = Some(value);
            return index;
        }
        let index = self.end;
        if (index as usize).is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[(index >> CHUNK_BITS) as usize].push(Some(value));
        self.end += 1;
        index
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let value =
            self.chunks.get_mut((index >> CHUNK_BITS) as usize)?[index as usize % CHUNK].take();
        if value.is_some() {
            self.free.push(index);
        }
        value
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        self.chunks
            .get((index >> CHUNK_BITS) as usize)?
            .get(index as usize % CHUNK)?
            .as_ref()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.chunks
            .get_mut((index >> CHUNK_BITS) as usize)?
            .get_mut(index as usize % CHUNK)?
            .as_mut()
    }

    /// Every item with its index.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..self.end).filter_map(|index| Some((index, self.get(index)?)))
    }
}

impl<T> std::ops::Index<u32> for Arena<T> {
    type Output = T;

    #[expect(
        clippy::expect_used,
        reason = "an index of a removed item is a bug of the caller"
    )]
    fn index(&self, index: u32) -> &T {
        self.get(index).expect("the item is still held")
    }
}

impl<T> std::ops::IndexMut<u32> for Arena<T> {
    #[expect(
        clippy::expect_used,
        reason = "an index of a removed item is a bug of the caller"
    )]
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.get_mut(index).expect("the item is still held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_used_again_and_items_stay_where_they_are() {
        let mut arena = Arena::new();
        let indices: Vec<u32> = (0..1000).map(|i| arena.insert(i)).collect();
        assert_eq!(arena.remove(indices[500]), Some(500));
        assert_eq!(arena.remove(indices[500]), None);
        assert_eq!(arena.len(), 999);
        assert_eq!(arena.insert(7), indices[500]);
        assert_eq!((arena[indices[499]], arena[indices[500]]), (499, 7));
        assert_eq!(arena.iter().count(), 1000);
        assert_eq!(arena.get(5000), None);
    }
}
