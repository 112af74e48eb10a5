//! A mock Discord with an oracle.

pub mod answer;
pub mod body;
pub mod clock;
pub mod endpoint;
pub mod faults;
pub mod http;
pub mod limits;
pub mod multipart;
pub mod objects;
pub mod oracle;
pub mod route;
pub mod settings;
pub mod world;

/// FNV-1a with a final mix: the same in every process, so that names of counters and buckets are.
pub(crate) fn stable_hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}
