//! `ADMIN_TOKEN`: what shows that somebody may change a running weir.

use std::fmt;

use super::bounds::{ADMIN_TOKEN_BYTES_MAX, ADMIN_TOKEN_BYTES_MIN};

/// A secret that requests to change a running weir carry. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// [`ADMIN_TOKEN_BYTES_MIN`] to [`ADMIN_TOKEN_BYTES_MAX`] bytes of visible ASCII, which a header
    /// can carry.
    pub fn new(text: &str) -> Option<Self> {
        let sound = (ADMIN_TOKEN_BYTES_MIN..=ADMIN_TOKEN_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        sound.then(|| Self(text.to_owned()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

/// Reads the setting.
///
/// # Errors
/// What may be said of a value that is not allowed: its length, since it may be one letter too short.
pub(super) fn token(value: &str) -> Result<AdminToken, String> {
    AdminToken::new(value).ok_or_else(|| format!("a text of {} bytes", value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_enough_and_fits_a_header_and_is_never_printed() {
        let longest = "x".repeat(ADMIN_TOKEN_BYTES_MAX);
        for text in ["0123456789abcdef", "{}\"\\~!/+==zzzzzzz", &longest] {
            let token = token(text).unwrap();
            assert_eq!(token.as_bytes(), text.as_bytes());
            assert!(!format!("{token:?}").contains(text));
        }
        let too_long = "x".repeat(ADMIN_TOKEN_BYTES_MAX + 1);
        for text in [
            "",
            "0123456789abcde",
            "0123456789 abcdef",
            "0123456789abcdeä",
            &too_long,
        ] {
            let said = token(text).unwrap_err();
            assert_eq!(said, format!("a text of {} bytes", text.len()));
        }
    }
}
