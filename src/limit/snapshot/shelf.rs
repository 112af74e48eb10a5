//! What was restored and nobody has asked for yet.
//!
//! A bucket's shard follows from its identity and major parameter, which its keys do not tell. So a
//! restored bucket stands on the shelf until a request names it: that request knows the shard, however
//! many there are now. Taking down is a lookup; what nobody takes down is thrown away as a whole.

use crate::limit::learn::KeyMap;

/// So many empty places are never worth closing ranks for.
const EMPTY_MAX: usize = 1_024;

/// Records under one or more keys.
pub(in crate::limit) struct Shelf<R> {
    places: KeyMap<u32>,
    records: Vec<Option<R>>,
    held: usize,
}

impl<R> Default for Shelf<R> {
    fn default() -> Self {
        Self {
            places: KeyMap::default(),
            records: Vec::new(),
            held: 0,
        }
    }
}

impl<R> Shelf<R> {
    /// Records held.
    pub(in crate::limit) const fn len(&self) -> usize {
        self.held
    }

    /// Puts a record up. Of two under one key the first stays.
    pub(in crate::limit) fn put(&mut self, keys: impl Iterator<Item = u64>, record: R) {
        if self.records.len() > EMPTY_MAX && self.held < self.records.len() / 4 {
            self.close_ranks();
        }
        let Ok(place) = u32::try_from(self.records.len()) else {
            return;
        };
        for key in keys {
            let known = self.places.entry(key).or_insert(place);
            // What stood there may have been taken down under another key.
            if self
                .records
                .get(*known as usize)
                .is_some_and(Option::is_none)
            {
                *known = place;
            }
        }
        self.records.push(Some(record));
        self.held += 1;
    }

    /// Gives up the places of what was taken down.
    fn close_ranks(&mut self) {
        let mut moved = 0;
        let places = self.records.iter().map(|record| {
            record.is_some().then(|| {
                moved += 1;
                moved - 1
            })
        });
        let places: Vec<Option<u32>> = places.collect();
        self.records.retain(Option::is_some);
        self.places
            .retain(|_, place| match places.get(*place as usize) {
                Some(Some(new)) => {
                    *place = *new;
                    true
                }
                Some(None) | None => false,
            });
    }

    /// Looks at a record.
    pub(in crate::limit) fn get(&self, key: u64) -> Option<&R> {
        let place = *self.places.get(&key)?;
        self.records.get(place as usize)?.as_ref()
    }

    /// The same, to change it.
    pub(in crate::limit) fn get_mut(&mut self, key: u64) -> Option<&mut R> {
        let place = *self.places.get(&key)?;
        self.records.get_mut(place as usize)?.as_mut()
    }

    /// Changes what stands in the places from `from`, `batch` of them; and where to go on.
    pub(in crate::limit) fn change(
        &mut self,
        from: u32,
        batch: u32,
        each: impl Fn(&mut R),
    ) -> Option<u32> {
        let end = self.records.len().min(from.saturating_add(batch) as usize);
        let bite = self.records.get_mut(from as usize..end).unwrap_or_default();
        bite.iter_mut().flatten().for_each(each);
        (end < self.records.len()).then_some(end as u32)
    }

    /// Takes a record down, under whatever other keys it stands.
    pub(in crate::limit) fn take(&mut self, key: u64) -> Option<R> {
        let place = self.places.remove(&key)?;
        let record = self.records.get_mut(place as usize)?.take();
        self.held -= usize::from(record.is_some());
        record
    }

    /// Throws away, of the places from `from`, `batch` of them, what is not worth keeping; and where to
    /// go on.
    pub(in crate::limit) fn sweep(
        &mut self,
        from: u32,
        batch: u32,
        keep: impl Fn(&R) -> bool,
    ) -> Option<u32> {
        let end = self.records.len().min(from.saturating_add(batch) as usize);
        let bite = self.records.get_mut(from as usize..end);
        for place in bite.unwrap_or_default() {
            if place.as_ref().is_some_and(|record| !keep(record)) {
                *place = None;
                self.held -= 1;
            }
        }
        (end < self.records.len()).then_some(end as u32)
    }

    /// What still stands in the places from `from`, `batch` of them; and where to go on.
    pub(in crate::limit) fn bite(
        &self,
        from: u32,
        batch: u32,
    ) -> (impl Iterator<Item = &R>, Option<u32>) {
        let end = self.records.len().min(from.saturating_add(batch) as usize);
        let next = (end < self.records.len()).then_some(end as u32);
        let bite = self.records.get(from as usize..end).unwrap_or_default();
        (bite.iter().flatten(), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_under_each_key_and_taken_once() {
        let mut shelf = Shelf::default();
        shelf.put([1, 2].into_iter(), "a");
        shelf.put([2, 3].into_iter(), "b");
        assert_eq!((shelf.get(1), shelf.get(2)), (Some(&"a"), Some(&"a")));
        assert_eq!(shelf.take(2), Some("a"));
        assert_eq!(shelf.get(1), None);
        assert_eq!(shelf.take(1), None);
        assert_eq!(shelf.len(), 1);
        assert_eq!(shelf.take(3), Some("b"));
        assert_eq!(shelf.len(), 0);
    }

    #[test]
    fn what_is_not_worth_keeping_goes_a_bite_at_a_time() {
        let mut shelf = Shelf::default();
        (0..10_u64).for_each(|n| shelf.put([n].into_iter(), n));
        let mut from = Some(0);
        while let Some(place) = from {
            from = shelf.sweep(place, 3, |n| n.is_multiple_of(2));
        }
        assert_eq!(shelf.len(), 5);
        assert_eq!((shelf.get(4), shelf.get(5)), (Some(&4), None));
    }

    #[test]
    fn a_key_of_what_was_taken_down_is_free_again() {
        let mut shelf = Shelf::default();
        shelf.put([1, 2].into_iter(), "a");
        shelf.take(1);
        shelf.put([2].into_iter(), "b");
        assert_eq!((shelf.get(1), shelf.get(2)), (None, Some(&"b")));
    }

    #[test]
    fn what_comes_and_goes_takes_no_more_room_than_what_is_held() {
        let mut shelf = Shelf::default();
        shelf.put([u64::MAX, 5].into_iter(), 77);
        for n in 10..100_000_u64 {
            shelf.put([n, n << 32].into_iter(), n);
            assert_eq!(shelf.take(n), Some(n));
        }
        assert!(shelf.records.len() <= EMPTY_MAX + 1 && shelf.places.len() <= 2 * EMPTY_MAX + 2);
        assert_eq!((shelf.get(5), shelf.len()), (Some(&77), 1));
        assert_eq!(shelf.get(99_999 << 32), None);
    }

    #[test]
    fn bites_together_are_all_that_is_held() {
        let mut shelf = Shelf::default();
        (0..10).for_each(|n| shelf.put([n].into_iter(), n));
        shelf.take(4);
        let (mut all, mut from) = (Vec::new(), Some(0));
        while let Some(place) = from {
            let (bite, next) = shelf.bite(place, 3);
            all.extend(bite.copied());
            from = next;
        }
        assert_eq!(all, [0, 1, 2, 3, 5, 6, 7, 8, 9]);
    }
}
