//! What a relayed request carries to show that a node of the cluster sent it: a header's value.
//!
//! ```text
//! time, ms, 16 hex digits   nonce, 16 hex digits   tag, 32 hex digits
//! ```
//!
//! The tag is over both numbers and whatever of the request the two nodes agree to protect.

use super::{Ignored, Mac, Replays, Stamp, TAG_BYTES, same};

/// Bytes of a pass, all of them ASCII.
pub const PASS_BYTES: usize = 2 * (8 + 8 + TAG_BYTES);

/// Keeps a pass from being taken for an envelope's tag.
const DOMAIN: &[u8] = b"weir relay 1";

/// A pass for a request of which `parts` are protected; their lengths are, too.
pub fn make_pass(mac: &dyn Mac, stamp: Stamp, parts: &[&[u8]]) -> [u8; PASS_BYTES] {
    let mut bytes = [0; PASS_BYTES / 2];
    bytes[..8].copy_from_slice(&stamp.unix_ms.to_be_bytes());
    bytes[8..16].copy_from_slice(&stamp.nonce.to_be_bytes());
    bytes[16..].copy_from_slice(&tag(mac, stamp, parts));
    let mut text = [0; PASS_BYTES];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    text
}

/// Takes a pass, once.
///
/// # Errors
/// Why the request is not one of a node's.
pub fn check_pass(
    mac: &dyn Mac,
    replays: &mut Replays,
    unix_ms: u64,
    pass: &[u8],
    parts: &[&[u8]],
) -> Result<(), Ignored> {
    let mut bytes = [0; PASS_BYTES / 2];
    if pass.len() != PASS_BYTES {
        return Err(Ignored::Malformed);
    }
    for (byte, pair) in bytes.iter_mut().zip(pass.chunks_exact(2)) {
        let (high, low) = (digit(pair[0])?, digit(pair[1])?);
        *byte = high << 4 | low;
    }
    let both = u128::from_be_bytes(*bytes.first_chunk().ok_or(Ignored::Malformed)?);
    let stamp = Stamp {
        unix_ms: (both >> 64) as u64,
        nonce: both as u64,
    };
    let shown = bytes.last_chunk().ok_or(Ignored::Malformed)?;
    if !same(&tag(mac, stamp, parts), shown) {
        return Err(Ignored::WrongTag);
    }
    replays.admit(stamp, unix_ms)
}

fn tag(mac: &dyn Mac, stamp: Stamp, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
    let lengths: Vec<[u8; 8]> = parts
        .iter()
        .map(|p| (p.len() as u64).to_le_bytes())
        .collect();
    let (time, nonce) = (stamp.unix_ms.to_le_bytes(), stamp.nonce.to_le_bytes());
    let mut all: Vec<&[u8]> = vec![DOMAIN, &time, &nonce];
    for (part, length) in parts.iter().zip(&lengths) {
        all.push(length);
        all.push(part);
    }
    mac.tag(&all)
}

fn digit(byte: u8) -> Result<u8, Ignored> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(Ignored::Malformed),
    }
}
