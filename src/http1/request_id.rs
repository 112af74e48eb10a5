//! What a client calls its request: `X-Request-Id`, which no standard defines and everybody uses.
//!
//! It goes on as it was sent, whatever it is. Weir itself says it, in logs and in answers of its own,
//! only if it can do no harm there.

/// Longest id that is taken up: four UUIDs; what is longer is no name but luggage.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// The id as it may be said: 1 to [`REQUEST_ID_BYTES_MAX`] bytes of visible ASCII, so that it breaks
/// neither a header line nor a line of a log. `None` for anything else.
pub fn sane_request_id(value: &[u8]) -> Option<&str> {
    let sane =
        (1..=REQUEST_ID_BYTES_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(value).ok().filter(|_| sane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_up_if_it_is_short_and_visible() {
        let longest = "x".repeat(REQUEST_ID_BYTES_MAX);
        for id in [
            "7",
            "6f1c7c1e-0b52-4a57-9d3f-0c2a4c1c0e11",
            "\"{}\\",
            &longest,
        ] {
            assert_eq!(sane_request_id(id.as_bytes()), Some(id));
        }
        let too_long = "x".repeat(REQUEST_ID_BYTES_MAX + 1);
        for odd in ["", "a b", "a\tb", "a\x7f", "ä", "a\nb", &too_long] {
            assert_eq!(sane_request_id(odd.as_bytes()), None, "{odd:?}");
        }
    }
}
