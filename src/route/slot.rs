//! Slots: the unit in which identities are shared out among the nodes of a cluster.
//!
//! ```text
//! identity, 64 bits:  ────────────────────┬──────────────┬────────────────────────────────
//!                      20 bits            │ slot, 12 bits│ 32 bits
//! every key that is mixed from it:        the same bits there
//! ```
//!
//! The limiter knows its buckets by mixes of an identity with other things, which do not tell the
//! identity. That its slot stands in all of them is what lets a node say, of everything it holds,
//! whose it is after the cluster has changed, without a byte of memory more; and a table of one byte
//! a slot answers the question for a request with one load.
//!
//! The bits are in the middle because hash tables use both ends. What is left of a key are 51 bits:
//! two of a million buckets of one identity collide with a probability of 2 in 10,000, and then share a limit.

/// Slots there are: with so many, shares of nine nodes differ by 5 % of each other, and the table of
/// their owners fits into the nearest cache.
pub const SLOTS: usize = 1 << SLOT_BITS;

const SLOT_BITS: u32 = 12;
const SHIFT: u32 = 32;
const MASK: u64 = (SLOTS as u64 - 1) << SHIFT;
const WORDS: usize = SLOTS / 64;

/// The slot of an identity, and of every key that was mixed from one by `with_slot_of`.
pub const fn slot_of(key: u64) -> u16 {
    ((key & MASK) >> SHIFT) as u16
}

/// A key of this slot.
pub(crate) const fn some_key_of(slot: u16) -> u64 {
    ((slot as u64) << SHIFT) & MASK
}

/// `key` with the slot of `identity`.
pub(crate) const fn with_slot_of(identity: u64, key: u64) -> u64 {
    (key & !MASK) | (identity & MASK)
}

/// Some of the slots. 512 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet([u64; WORDS]);

impl SlotSet {
    /// None of them.
    pub const EMPTY: Self = Self([0; WORDS]);
    /// All of them.
    pub const ALL: Self = Self([u64::MAX; WORDS]);

    /// Adds a slot; one that does not exist is left out.
    pub fn insert(&mut self, slot: u16) {
        if let Some(word) = self.0.get_mut(usize::from(slot) / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    /// Takes those of `other` out.
    pub fn remove_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= !b);
    }

    /// Adds those of `other`.
    pub fn add_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a |= b);
    }

    /// Takes all out but those of `other`.
    pub fn keep_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= b);
    }

    /// Whether the slot is among them.
    pub fn contains(&self, slot: u16) -> bool {
        let word = self.0.get(usize::from(slot) / 64);
        word.is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    /// Whether the slot of this identity or key is.
    pub fn holds(&self, key: u64) -> bool {
        self.contains(slot_of(key))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..SLOTS as u16).filter(|slot| self.contains(*slot))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// As 64 words, the lowest slots first.
    pub const fn words(&self) -> &[u64; WORDS] {
        &self.0
    }

    /// From such words.
    pub const fn from_words(words: [u64; WORDS]) -> Self {
        Self(words)
    }
}

impl Default for SlotSet {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl FromIterator<u16> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        let mut set = Self::EMPTY;
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

impl std::fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} slots", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_slot_of_its_identity_and_its_other_bits() {
        let identity = 0x1234_5abc_dead_beef;
        let key = with_slot_of(identity, 0xffff_ffff_ffff_fffe);
        assert_eq!((slot_of(identity), slot_of(key)), (0xabc, 0xabc));
        assert_eq!(key, 0xffff_fabc_ffff_fffe);
    }

    #[test]
    fn a_set_holds_what_was_put_in_and_not_taken_out() {
        let mut set: SlotSet = [0, 63, 64, 4_095, 4_096].into_iter().collect();
        assert_eq!(set.len(), 4);
        assert!(set.contains(64) && set.contains(4_095) && !set.contains(1));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 4_095]);
        assert_eq!(slot_of(some_key_of(4_095)), 4_095);
        assert!(!set.contains(4_096) && !set.contains(u16::MAX));
        set.remove_all(&[63, 64].into_iter().collect());
        assert!(!set.contains(64) && set.contains(0) && set.len() == 2);
        assert_eq!(SlotSet::from_words(*set.words()), set);
        set.add_all(&[1, 2].into_iter().collect());
        set.keep_all(&[0, 1, 9].into_iter().collect());
        assert_eq!(set, [0, 1].into_iter().collect());
        assert!(SlotSet::EMPTY.is_empty() && SlotSet::ALL.len() == SLOTS);
    }
}
