//! The little that has to be known about particular routes.
//!
//! There is no list of endpoints: a route is its path with the ids replaced, so an endpoint that
//! Discord adds tomorrow needs no new weir. What stands here are the exceptions, each with the
//! reason.

use super::path::{Segment, number};

/// Bytes of the longest route text. Discord's longest, `/applications/!/guilds/!/commands/!/permissions`,
/// has 47; two and a half times that leaves room for what it may add, and a hostile path no more.
pub const ROUTE_TEXT_BYTES_MAX: usize = 120;

/// Bytes of the longest segment that is kept as a word. Discord's longest word has 25
/// (`soundboard-default-sounds`); anything over this is a token or a code, which must neither
/// separate limits nor show in metrics.
pub const WORD_BYTES_MAX: usize = 32;

/// Stands for a replaced segment.
pub(super) const REPLACED: Segment<'static> = Segment {
    bytes: b"!",
    is_id: false,
    is_graphic: true,
};

/// The route of a path outside `/api`.
pub(super) const OTHER: &str = "/other";

/// The route of a path whose text would exceed [`ROUTE_TEXT_BYTES_MAX`].
pub(super) const LONG: &str = "/long";

/// Words that are followed by a code which is neither a number nor long: an invite's, a guild
/// template's, an activity instance's. Left in, each code would be a route of its own.
const BEFORE_A_CODE: [&[u8]; 3] = [b"invites", b"templates", b"activity-instances"];

/// Discord's epoch, the first second of 2015, in Unix milliseconds (docs: reference, snowflakes).
const EPOCH_UNIX_MS: u64 = 1_420_070_400_000;
/// A message younger than this is deleted under its own limit (discord-api-docs #1295, #8330).
const YOUNG_MS: u64 = 10_000;
/// A message older than this is deleted under its own limit (discord-api-docs #1092, #8330).
const OLD_MS: u64 = 14 * 24 * 60 * 60 * 1_000;

/// What splits one route text into several limits, beside the method.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Class {
    /// Nothing.
    #[default]
    Plain,
    /// Deletes a message younger than 10 s.
    DeletesYoung,
    /// Deletes a message older than 14 days.
    DeletesOld,
    /// PUT or DELETE of a reaction, which share one limit (discord-api-docs #981).
    ModifiesReaction,
}

impl Class {
    /// The class of deleting the message with this id at this moment. An id that is no snowflake
    /// is plain; one from the future is young.
    pub(super) fn of_deletion(message_id: &[u8], unix_ms: u64) -> Self {
        let Some(id) = number(message_id) else {
            return Self::Plain;
        };
        let age_ms = unix_ms.saturating_sub((id >> 22) + EPOCH_UNIX_MS);
        match age_ms {
            0..YOUNG_MS => Self::DeletesYoung,
            YOUNG_MS..=OLD_MS => Self::Plain,
            _ => Self::DeletesOld,
        }
    }

    /// The class of any method on what follows `/reactions`.
    pub(super) fn of_reaction(method: &[u8]) -> Self {
        match method {
            b"PUT" | b"DELETE" => Self::ModifiesReaction,
            _ => Self::Plain,
        }
    }
}

/// Wall clocks, in Unix milliseconds, at which the message with this id is young, plain and old.
pub(super) fn clocks_of_each_class(message_id: &[u8]) -> [u64; 3] {
    let made_unix_ms = (number(message_id).unwrap_or(0) >> 22) + EPOCH_UNIX_MS;
    [0, YOUNG_MS, OLD_MS + 1].map(|age_ms| made_unix_ms + age_ms)
}

/// Whether `segment`, standing behind `previous`, is replaced.
pub(super) fn is_replaced(previous: &[u8], segment: Segment<'_>) -> bool {
    segment.is_id || segment.bytes.len() > WORD_BYTES_MAX || BEFORE_A_CODE.contains(&previous)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_message_decides_how_its_deletion_is_limited() {
        let now_ms = 1_700_000_000_000_u64;
        let id_of_age = |age_ms: u64| ((now_ms - age_ms - EPOCH_UNIX_MS) << 22).to_string();
        for (age_ms, class) in [
            (0, Class::DeletesYoung),
            (9_999, Class::DeletesYoung),
            (10_000, Class::Plain),
            (OLD_MS, Class::Plain),
            (OLD_MS + 1, Class::DeletesOld),
        ] {
            assert_eq!(
                Class::of_deletion(id_of_age(age_ms).as_bytes(), now_ms),
                class,
                "{age_ms}"
            );
        }
        assert_eq!(
            Class::of_deletion(b"18446744073709551615", now_ms),
            Class::DeletesYoung
        );
        assert_eq!(
            Class::of_deletion(b"99999999999999999999", now_ms),
            Class::Plain
        );
    }

    #[test]
    fn ids_codes_and_long_segments_are_replaced_and_words_stay() {
        let id = Segment {
            bytes: b"1",
            is_id: true,
            is_graphic: true,
        };
        let word = |bytes| Segment {
            bytes,
            is_id: false,
            is_graphic: true,
        };
        assert!(is_replaced(b"members", id));
        assert!(is_replaced(b"invites", word(b"dyno")));
        assert!(is_replaced(b"x", word(&[b'a'; WORD_BYTES_MAX + 1])));
        assert!(!is_replaced(b"x", word(&[b'a'; WORD_BYTES_MAX])));
        assert!(!is_replaced(b"guilds", word(b"templates")));
        assert!(!is_replaced(b"messages", word(b"@original")));
    }
}
