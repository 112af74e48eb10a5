//! What a node that loses slots sends to the one that gets them: what it knows of their identities, in
//! parts that each stand for themselves.
//!
//! Each part can be lost, come late or out of order: what it says makes the new owner more careful or
//! spares it a question, and nothing depends on it. What is in the records is the limiter's matter
//! ([`limit::snapshot`](crate::limit::snapshot)).

use super::Ignored;
use crate::route::slot::{SLOTS, SlotSet};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Bytes of records in one part: some 200 buckets. A part is dealt with in well under a millisecond,
/// and needs no more than a few buffers.
pub const RECORDS_BYTES_MAX: usize = 16 * 1024;

/// One part of a hand-over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandOver<'a> {
    /// Whom it is for, by cluster address.
    pub to: SocketAddr,
    /// Who sends it.
    pub from: SocketAddr,
    /// The sender's generation.
    pub generation: u64,
    /// What the sender's keys make of something known ([`Keys::probe`](crate::route::Keys::probe)): with
    /// another result here its records mean nothing.
    pub probe: u64,
    /// Which part it is, from 0.
    pub part: u32,
    /// There are no more.
    pub last: bool,
    /// The sender sends nothing more for these slots.
    pub complete: bool,
    /// The slots that it speaks of.
    pub slots: SlotSet,
    /// Records of the limiter's, at most [`RECORDS_BYTES_MAX`].
    pub records: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Frame<'a> {
    to: SocketAddr,
    from: SocketAddr,
    generation: u64,
    probe: u64,
    part: u32,
    last: bool,
    complete: bool,
    slots: &'a [u8],
    records: &'a [u8],
}

impl<'a> HandOver<'a> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let slots: Vec<u8> = self
            .slots
            .words()
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        let frame = Frame {
            to: self.to,
            from: self.from,
            generation: self.generation,
            probe: self.probe,
            part: self.part,
            last: self.last,
            complete: self.complete,
            slots: &slots,
            records: self.records,
        };
        // Nothing in it can fail to be written, and a Vec takes whatever comes.
        match postcard::to_extend(&frame, std::mem::take(out)) {
            Ok(bytes) => *out = bytes,
            Err(_) => debug_assert!(false, "a hand-over that cannot be written"),
        }
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Ignored> {
        let Ok((frame, [])) = postcard::take_from_bytes::<Frame<'a>>(bytes) else {
            return Err(Ignored::Malformed);
        };
        let (words, []) = frame.slots.as_chunks::<8>() else {
            return Err(Ignored::Malformed);
        };
        let words: [[u8; 8]; SLOTS / 64] = words.try_into().map_err(|_| Ignored::Malformed)?;
        if frame.records.len() > RECORDS_BYTES_MAX {
            return Err(Ignored::Malformed);
        }
        Ok(Self {
            to: frame.to,
            from: frame.from,
            generation: frame.generation,
            probe: frame.probe,
            part: frame.part,
            last: frame.last,
            complete: frame.complete,
            slots: SlotSet::from_words(words.map(u64::from_le_bytes)),
            records: frame.records,
        })
    }
}
