//! A snapshot as bytes: written in pieces, read as a whole or not at all.
//!
//! ```text
//! "weir state\n"  version  length of the seal  seal   records …  End   CRC-32
//!     11 bytes     u32 LE        u32 LE       postcard  postcard       u32 LE, of all before
//! ```
//!
//! The checksum tells a broken file from a whole one; it is no proof against somebody who may write
//! the file, so what is read is bounded as if a stranger had sent it.

use super::record::Record;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What every state file begins with.
const MAGIC: &[u8; 11] = b"weir state\n";
/// Goes up with every change of [`Record`] or [`Seal`]. 2: the identify queue's records.
pub(super) const VERSION: u32 = 2;
/// The oldest version that is read: what came since were new kinds of records.
const OLDEST: u32 = 1;
/// A seal is 60 bytes; more is not one of ours.
const SEAL_BYTES_MAX: usize = 256;
/// The largest snapshot that is written or read: with 60 bytes a bucket, 15 times the default of
/// `MAX_BUCKETS`. What does not fit is left out, buckets last.
pub const BYTES_MAX: usize = 1 << 30;

/// What has to be known of a snapshot before its records mean anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seal {
    /// The seeds of the keyed hashes that all keys come from ([`Keys`](crate::route::Keys)).
    pub seeds: [u64; 4],
    /// What those hashes make of something known: another build or machine may hash otherwise.
    pub probe: u64,
    /// When the snapshot was taken, milliseconds since the Unix epoch.
    pub saved_unix_ms: u64,
    /// It is the last word of its process, which sent nothing afterwards.
    pub complete: bool,
}

/// Why bytes are not taken for a snapshot. Its `Display` is a clause for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// They do not begin as a snapshot does.
    Foreign,
    /// A version that this weir does not read.
    Version(u32),
    /// They end too early, or are not what was written.
    Damaged,
    /// They are whole, and say what no weir writes.
    Malformed,
    /// Its keys were hashed in another way than this weir hashes.
    OtherHash,
    /// More than [`BYTES_MAX`].
    TooLarge,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it is no state file of weir's"),
            Self::Version(version) if *version > VERSION => {
                write!(
                    f,
                    "a newer weir wrote it (version {version}, this one reads {VERSION})"
                )
            }
            Self::Version(version) => {
                write!(
                    f,
                    "an older weir wrote it (version {version}, this one reads {VERSION})"
                )
            }
            Self::Damaged => f.write_str("it is damaged or cut off"),
            Self::Malformed => f.write_str("its records make no sense"),
            Self::OtherHash => {
                f.write_str("its keys were made by another build of weir, or on another machine")
            }
            Self::TooLarge => f.write_str("it is larger than any that weir writes"),
        }
    }
}

impl std::error::Error for Broken {}

/// Turns records into bytes, in pieces that the caller takes away.
pub(super) struct Encoder {
    crc: crc32fast::Hasher,
    records: u64,
    bytes: usize,
}

impl Encoder {
    pub(super) fn begin(seal: &Seal, out: &mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        let mut sealed = Vec::new();
        extend(&mut sealed, seal);
        out.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
        out.extend_from_slice(&sealed);
        let mut encoder = Self {
            crc: crc32fast::Hasher::new(),
            records: 0,
            bytes: 0,
        };
        encoder.count(&out[start..]);
        encoder
    }

    /// Adds records. `false`: no more fit.
    pub(super) fn add(&mut self, records: impl Iterator<Item = Record>, out: &mut Vec<u8>) -> bool {
        /// Room for the largest record and the end.
        const RESERVE: usize = 64 * 1024;
        let start = out.len();
        let mut fits = true;
        for record in records {
            fits = self.bytes + (out.len() - start) + RESERVE < BYTES_MAX;
            if !fits {
                break;
            }
            extend(out, &record);
            self.records += 1;
        }
        self.count(&out[start..]);
        fits
    }

    pub(super) fn end(mut self, out: &mut Vec<u8>) {
        let start = out.len();
        let records = self.records;
        extend(out, &Record::End { records });
        self.count(&out[start..]);
        out.extend_from_slice(&self.crc.finalize().to_le_bytes());
    }

    fn count(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.bytes += bytes.len();
    }
}

/// Appends a value. Nothing that is written here can fail to be: no maps, no floats but plain ones,
/// and a `Vec` takes whatever comes.
pub(super) fn extend<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    let start = out.len();
    match postcard::to_extend(value, std::mem::take(out)) {
        Ok(bytes) => *out = bytes,
        Err(_) => debug_assert!(false, "a record that cannot be written, at {start}"),
    }
}

/// The seal of a snapshot and where its records lie; the checksum is right.
pub(super) fn open(bytes: &[u8]) -> Result<(Seal, &[u8]), Broken> {
    if bytes.len() > BYTES_MAX {
        return Err(Broken::TooLarge);
    }
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        let cut_off = bytes.len() < MAGIC.len() && MAGIC.starts_with(bytes);
        return Err(if cut_off {
            Broken::Damaged
        } else {
            Broken::Foreign
        });
    };
    let (version, rest) = number(rest)?;
    if !(OLDEST..=VERSION).contains(&version) {
        return Err(Broken::Version(version));
    }
    let (body, crc) = bytes
        .split_last_chunk()
        .map(|(body, crc)| (body, u32::from_le_bytes(*crc)))
        .ok_or(Broken::Damaged)?;
    if crc32fast::hash(body) != crc {
        return Err(Broken::Damaged);
    }
    let (len, rest) = number(rest)?;
    let len = len as usize;
    let records_end = rest.len().checked_sub(4).ok_or(Broken::Damaged)?;
    if len > SEAL_BYTES_MAX || len > records_end {
        return Err(Broken::Malformed);
    }
    let (sealed, records) = rest[..records_end].split_at(len);
    match postcard::take_from_bytes(sealed) {
        Ok((seal, [])) => Ok((seal, records)),
        Ok(_) | Err(_) => Err(Broken::Malformed),
    }
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8]), Broken> {
    let (number, rest) = bytes.split_first_chunk().ok_or(Broken::Damaged)?;
    Ok((u32::from_le_bytes(*number), rest))
}

/// Calls `each` for every record up to the end, which must be where the bytes end.
pub(super) fn records(mut bytes: &[u8], mut each: impl FnMut(Record)) -> Result<(), Broken> {
    let mut count = 0;
    loop {
        let (record, rest) = postcard::take_from_bytes(bytes).map_err(|_| Broken::Malformed)?;
        bytes = rest;
        match record {
            Record::End { records } if records == count && bytes.is_empty() => return Ok(()),
            Record::End { .. } => return Err(Broken::Malformed),
            Record::Bucket(bucket) if !bucket.is_sound() => return Err(Broken::Malformed),
            record => {
                count += 1;
                each(record);
            }
        }
    }
}
