//! A keyed hash that is the same on every machine and in every build.
//!
//! Nodes of a cluster must agree on whose an identity is, whatever version of a hashing crate each
//! was built with. So this one is ours: words of 64 bits, little-endian, folded by multiplication,
//! as wyhash and ahash do. Like those it resists senders who do not know the seeds, and no others.
//!
//! Cost: one multiplication for 16 bytes, three more for each hash; some 60 instructions for a token.

/// Digits of π: a product with zero tells nothing, and seeds in tests are small numbers.
const ODD: [u64; 4] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
];

/// Hashes parts that are told apart: ("ab", "c") is not ("a", "bc").
pub(super) fn hash<const N: usize>(seeds: &[u64; 4], domain: u64, parts: [&[u8]; N]) -> u64 {
    let mut state = fold(seeds[0] ^ domain ^ ODD[0], seeds[3] ^ ODD[1]);
    for part in parts {
        state ^= part.len() as u64;
        let (chunks, rest) = part.as_chunks::<16>();
        for chunk in chunks {
            state = take(seeds, state, chunk);
        }
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        state = take(seeds, state, &last);
    }
    fold(state ^ seeds[1], seeds[2] ^ ODD[0])
}

const fn take(seeds: &[u64; 4], state: u64, chunk: &[u8; 16]) -> u64 {
    let both = u128::from_le_bytes(*chunk);
    let (low, high) = (both as u64, (both >> 64) as u64);
    fold(low ^ seeds[1] ^ ODD[2], high ^ seeds[2] ^ ODD[3] ^ state)
}

/// The halves of a product.
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: [u64; 4] = [1, 2, 3, 4];

    #[test]
    fn it_never_changes_lest_two_versions_in_a_cluster_disagree() {
        assert_eq!(hash(&SEEDS, 1, [b""]), 0xc004_6c99_3297_762d);
        assert_eq!(
            hash(&SEEDS, 1, [b"Bot MTIz.abc.def"]),
            0x808e_340d_f9fa_2142
        );
        assert_eq!(
            hash(&SEEDS, 2, [b"1234567890123456789", b"token"]),
            0x624c_1dc0_e733_627d
        );
    }

    #[test]
    fn parts_seeds_and_domains_make_a_difference() {
        let hashes = [
            hash(&SEEDS, 1, [b"ab", b"c"]),
            hash(&SEEDS, 1, [b"a", b"bc"]),
            hash(&SEEDS, 1, [b"abc", b""]),
            hash(&SEEDS, 1, [b"abc\0", b""]),
            hash(&SEEDS, 2, [b"ab", b"c"]),
            hash(&[1, 2, 3, 5], 1, [b"ab", b"c"]),
            hash(&[1, 2, 4, 4], 1, [b"ab", b"c"]),
            hash(&[1, 9, 3, 4], 1, [b"ab", b"c"]),
            hash(&[9, 2, 3, 4], 1, [b"ab", b"c"]),
        ];
        for (i, a) in hashes.iter().enumerate() {
            assert!(hashes[i + 1..].iter().all(|b| a != b), "{i}");
        }
    }

    #[test]
    fn every_bit_of_it_is_as_often_set_as_not() {
        let seeds = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 7, 0];
        let mut ones = [0_u32; 64];
        for n in 0..4_096_u32 {
            let text = format!("Bot {n}");
            let hash = hash(&seeds, 1, [text.as_bytes()]);
            (0..64).for_each(|bit| ones[bit] += u32::from(hash >> bit & 1 == 1));
        }
        assert!(ones.iter().all(|n| (1_800..2_300).contains(n)), "{ones:?}");
    }
}
