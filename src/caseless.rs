//! Names that mean the same in any case (RFC 9110 5.1), compared with one that is known.
//!
//! Headers are told apart by length first and then by one such comparison: a few instructions,
//! since the length is known and all bytes are compared in one go.

/// Whether `name`, of printable ASCII, is `known` in any case. `known` holds small letters, digits
/// and dashes alone.
#[inline]
pub(crate) fn is<const N: usize>(name: &[u8], known: &[u8; N]) -> bool {
    name.len() == N && begins(name, known)
}

/// Whether `name` begins with `known`, under the same conditions.
#[inline]
pub(crate) fn begins<const N: usize>(name: &[u8], known: &[u8; N]) -> bool {
    // What tells small letters from capitals is a bit that digits and dashes have as well.
    let small = |byte: u8| byte | 0x20;
    name.first_chunk::<N>().is_some_and(|name| {
        let pairs = name.iter().zip(known);
        pairs.fold(0, |all, (&a, &b)| all | (small(a) ^ b)) == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_alone_makes_no_difference() {
        for name in ["te-2", "TE-2", "Te-2"] {
            assert!(is(name.as_bytes(), b"te-2") && begins(name.as_bytes(), b"te-2"));
        }
        for name in ["", "te-", "te-3", "te_2", "ta-2", "@e-2", "te-22"] {
            assert!(!is(name.as_bytes(), b"te-2"), "{name}");
        }
        assert!(begins(b"TE-22", b"te-2") && !begins(b"TE-", b"te-2"));
    }

    #[test]
    fn no_printable_byte_is_taken_for_another() {
        let known = *b"abcdefghijklmnopqrstuvwxyz0123456789-";
        for at in 0..known.len() {
            for byte in b' '..=b'~' {
                let mut name = known;
                name[at] = byte;
                assert_eq!(is(&name, &known), name.eq_ignore_ascii_case(&known));
            }
        }
    }
}
