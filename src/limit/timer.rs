//! A hierarchical timing wheel: many deadlines, one sleep.
//!
//! Six levels of 64 slots. A slot of level *n* spans 64^n milliseconds, so an entry is filed by the
//! highest bits in which its deadline differs from the present, and moves down a level each time
//! the present enters its slot:
//!
//! ```text
//! level 0   |.|.|x|.|  64 slots of 1 ms       fires
//! level 1   |  x  |.|  64 slots of 64 ms      moves to level 0 when its slot begins
//! level 5   |   x   |  64 slots of 12.4 days
//! ```
//!
//! Insert and cancel are O(1) and free of allocation once the wheel has grown; an entry with an
//! eight-byte value takes 32 bytes. Each level has a bitmap, so finding the next deadline is a few
//! bit operations, however empty the wheel is. A timer never fires early: deadlines are rounded up
//! to the next millisecond, the present is rounded down.

use crate::clock::Instant;

/// Nanoseconds of one tick. One millisecond: the coarsest grain that does not show beside a
/// network, and the finest that epoll can sleep.
const TICK_NS: u64 = 1_000_000;
const LEVELS: usize = 6;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// The longest time from the present that is filed exactly (about two years); later deadlines are
/// filed there and would fire then, which no deadline of ours reaches.
const HORIZON_TICKS: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;
/// How many entries of a coarse slot [`Wheel::next_deadline`] looks through before it answers with
/// the slot's beginning. A handful saves a needless wake-up for the common lonely timer; more would
/// make an answer cost what it saves.
const SCAN_MAX: usize = 16;
const NONE: u32 = u32::MAX;
const FREE: u16 = u16::MAX;

/// Names one armed timer. A key whose timer has fired or was cancelled is harmless: generations
/// tell it from the entry that took its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerKey {
    index: u32,
    generation: u32,
}

#[derive(Clone, Copy)]
struct Entry<T> {
    /// The deadline in ticks, rounded up.
    tick: u64,
    value: T,
    /// Neighbours in the slot's circular list; in a free entry `next` is the next free one.
    prev: u32,
    next: u32,
    generation: u32,
    /// `level * 64 + slot`, or [`FREE`].
    place: u16,
}

/// Timers that carry a `T` each. See the module's documentation.
pub struct Wheel<T> {
    entries: Vec<Entry<T>>,
    free: u32,
    len: usize,
    /// Ticks that have been dealt with; no entry lies before it, except by being late itself.
    elapsed: u64,
    occupied: [u64; LEVELS],
    heads: [[u32; SLOTS]; LEVELS],
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel whose present is `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
            len: 0,
            elapsed: now.as_nanos() / TICK_NS,
            occupied: [0; LEVELS],
            heads: [[NONE; SLOTS]; LEVELS],
        }
    }

    /// Timers armed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Arms a timer; one whose deadline has passed fires at the next [`Self::pop`].
    pub fn insert(&mut self, at: Instant, value: T) -> TimerKey {
        let tick = at
            .as_nanos()
            .div_ceil(TICK_NS)
            .clamp(self.elapsed, self.elapsed + HORIZON_TICKS);
        let index = if self.free == NONE {
            self.entries.push(Entry {
                tick,
                value,
                prev: NONE,
                next: NONE,
                generation: 0,
                place: FREE,
            });
            (self.entries.len() - 1) as u32
        } else {
            let index = self.free;
            let entry = &mut self.entries[index as usize];
            self.free = entry.next;
            entry.tick = tick;
            entry.value = value;
            index
        };
        self.len += 1;
        self.link(index);
        TimerKey {
            index,
            generation: self.entries[index as usize].generation,
        }
    }

    /// Disarms a timer. `None` if it has fired or was cancelled before.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.generation != key.generation || entry.place == FREE {
            return None;
        }
        let value = entry.value;
        self.unlink(key.index);
        self.release(key.index);
        Some(value)
    }

    /// The next timer whose deadline is not after `now`, disarmed. Call until `None`.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        let target = now.as_nanos() / TICK_NS;
        loop {
            let next = self.next_slot().filter(|&(_, _, start)| start <= target);
            let Some((level, slot, start)) = next else {
                self.elapsed = self.elapsed.max(target);
                return None;
            };
            self.elapsed = self.elapsed.max(start);
            let head = self.heads[level][slot];
            if level == 0 {
                let value = self.entries[head as usize].value;
                self.unlink(head);
                self.release(head);
                return Some(value);
            }
            self.cascade(level, slot);
        }
    }

    /// When to call [`Self::pop`] next. Exact to the millisecond for deadlines that are near or few;
    /// for a crowded coarse slot it is that slot's beginning, which is earlier.
    pub fn next_deadline(&self) -> Option<Instant> {
        let (level, slot, start) = self.next_slot()?;
        let mut at = start;
        if level > 0 {
            let head = self.heads[level][slot];
            let mut earliest = u64::MAX;
            let mut index = head;
            for _ in 0..SCAN_MAX {
                let entry = &self.entries[index as usize];
                earliest = earliest.min(entry.tick);
                index = entry.next;
                if index == head {
                    at = earliest;
                    break;
                }
            }
        }
        Some(Instant::from_nanos(at.saturating_mul(TICK_NS)))
    }

    /// The first occupied slot: its level, its number and the tick at which it begins.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        (0..LEVELS)
            .find(|&level| self.occupied[level] != 0)
            .map(|level| {
                let shift = SLOT_BITS * level as u32;
                let present = (self.elapsed >> shift) as u32 % SLOTS as u32;
                let ahead = self.occupied[level].rotate_right(present).trailing_zeros();
                let slot = (present + ahead) as usize % SLOTS;
                (
                    level,
                    slot,
                    ((self.elapsed >> shift) + u64::from(ahead)) << shift,
                )
            })
    }

    /// Files the entries of a coarse slot anew, now that the present has entered it.
    fn cascade(&mut self, level: usize, slot: usize) {
        let head = self.heads[level][slot];
        self.heads[level][slot] = NONE;
        self.occupied[level] &= !(1 << slot);
        let mut index = head;
        loop {
            let next = self.entries[index as usize].next;
            self.link(index);
            if next == head {
                break;
            }
            index = next;
        }
    }

    fn link(&mut self, index: u32) {
        let tick = self.entries[index as usize].tick.max(self.elapsed);
        let differing = (tick ^ self.elapsed) | (SLOTS as u64 - 1);
        let level = ((differing.ilog2() / SLOT_BITS) as usize).min(LEVELS - 1);
        let slot = (tick >> (SLOT_BITS * level as u32)) as usize % SLOTS;
        let head = self.heads[level][slot];
        let entry = &mut self.entries[index as usize];
        entry.place = (level * SLOTS + slot) as u16;
        if head == NONE {
            entry.prev = index;
            entry.next = index;
            self.heads[level][slot] = index;
            self.occupied[level] |= 1 << slot;
        } else {
            let tail = self.entries[head as usize].prev;
            let entry = &mut self.entries[index as usize];
            entry.prev = tail;
            entry.next = head;
            self.entries[tail as usize].next = index;
            self.entries[head as usize].prev = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let Entry {
            prev, next, place, ..
        } = self.entries[index as usize];
        let (level, slot) = (place as usize / SLOTS, place as usize % SLOTS);
        if next == index {
            self.heads[level][slot] = NONE;
            self.occupied[level] &= !(1 << slot);
        } else {
            self.entries[prev as usize].next = next;
            self.entries[next as usize].prev = prev;
            if self.heads[level][slot] == index {
                self.heads[level][slot] = next;
            }
        }
    }

    fn release(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.place = FREE;
        entry.next = self.free;
        self.free = index;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const fn ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn an_entry_with_an_eight_byte_value_takes_32_bytes() {
        assert_eq!(size_of::<Entry<u64>>(), 32);
    }

    #[test]
    fn a_timer_fires_at_its_deadline_and_never_before() {
        let mut wheel = Wheel::new(ms(1000));
        wheel.insert(Instant::from_nanos(1_500_000_001), 7);
        assert_eq!(wheel.next_deadline(), Some(ms(1501)));
        assert_eq!(wheel.pop(ms(1500)), None);
        assert_eq!(wheel.pop(Instant::from_nanos(1_500_999_999)), None);
        assert_eq!(wheel.pop(ms(1501)), Some(7));
        assert!(wheel.is_empty() && wheel.next_deadline().is_none());
    }

    #[test]
    fn a_late_timer_fires_at_once_and_a_stale_key_is_harmless() {
        let mut wheel = Wheel::new(ms(5000));
        let first = wheel.insert(ms(1), 'a');
        assert_eq!(wheel.pop(ms(5000)), Some('a'));
        let second = wheel.insert(ms(6000), 'b');
        assert_eq!(wheel.cancel(first), None);
        assert_eq!(wheel.cancel(second), Some('b'));
        assert_eq!(wheel.cancel(second), None);
        assert_eq!(wheel.pop(ms(10_000)), None);
    }

    #[test]
    fn timers_of_one_millisecond_fire_in_the_order_they_were_set() {
        let mut wheel = Wheel::new(Instant::ZERO);
        for i in 0..10 {
            wheel.insert(ms(90_000), i);
        }
        let fired: Vec<i32> = std::iter::from_fn(|| wheel.pop(ms(90_000))).collect();
        assert_eq!(fired, (0..10).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_sorted_map(
            ops in prop::collection::vec((0u8..4, 0u64..200_000_000, 0usize..50), 1..300)
        ) {
            let mut now = 12_345_678u64;
            let mut wheel = Wheel::new(ms(now));
            let mut model: BTreeMap<(u64, usize), TimerKey> = BTreeMap::new();
            for (serial, (op, span, pick)) in ops.into_iter().enumerate() {
                match op {
                    0 | 1 => {
                        let at = now + span % [50, 5_000, 400_000, 200_000_000][pick % 4];
                        model.insert((at, serial), wheel.insert(ms(at), serial));
                    }
                    2 => {
                        if let Some((&k, &key)) = model.iter().nth(pick) {
                            prop_assert_eq!(wheel.cancel(key), Some(k.1));
                            model.remove(&k);
                        }
                    }
                    _ => {
                        now += span % [20, 70_000, 300_000, 200_000_000][pick % 4];
                        let mut fired: Vec<usize> =
                            std::iter::from_fn(|| wheel.pop(ms(now))).collect();
                        let rest = model.split_off(&(now + 1, 0));
                        let mut due: Vec<usize> = model.keys().map(|k| k.1).collect();
                        fired.sort_unstable();
                        due.sort_unstable();
                        prop_assert_eq!(fired, due);
                        model = rest;
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                match (wheel.next_deadline(), model.keys().next()) {
                    (Some(at), Some(&(first, _))) => {
                        // A deadline set for the very millisecond that has been dealt with may be due.
                        prop_assert!(at <= ms(first) && at >= ms(now).min(ms(first)));
                    }
                    (None, None) => {}
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
