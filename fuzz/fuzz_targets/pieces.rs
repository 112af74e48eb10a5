//! Bytes in pieces, as a network delivers them.

/// Cuts `bytes` into pieces of 1 to 16 bytes; `cut` chooses how.
pub(crate) fn any(bytes: &[u8], cut: u8) -> Vec<&[u8]> {
    let mut state = u32::from(cut) + 1;
    cuts(bytes, || {
        // A small generator of full period: its high bits are the piece's length.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 28) as usize
    })
}

/// One byte each.
pub(crate) fn single(bytes: &[u8]) -> Vec<&[u8]> {
    cuts(bytes, || 1)
}

fn cuts(mut bytes: &[u8], mut len: impl FnMut() -> usize) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(len().min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
