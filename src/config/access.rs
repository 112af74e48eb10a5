//! `ACCESS_LOG`: which requests get a line of their own.

use std::fmt;
use std::str::FromStr;

/// Of so many requests, [`AccessLog::per_million`] get a line.
const MILLION: u32 = 1_000_000;

/// Which requests are written down. The default is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AccessLog {
    /// Those that did not end with a status below 400.
    errors: bool,
    /// So many of a million, of all. Invariant: at most [`MILLION`].
    per_million: u32,
}

impl AccessLog {
    /// Every request.
    pub const ALL: Self = Self {
        errors: true,
        per_million: MILLION,
    };

    /// Those that ended without an answer, or with a status from 400 on.
    pub const ERRORS: Self = Self {
        errors: true,
        per_million: 0,
    };

    /// Whether no request is written down.
    pub const fn is_off(self) -> bool {
        !self.errors && self.per_million == 0
    }

    /// Whether a request is written down that ended so; `lot` is any number, other for each.
    pub const fn takes(self, is_error: bool, lot: u64) -> bool {
        // The upper half of the product: `lot` as a part of its range, without a division.
        let lot = ((lot as u128 * MILLION as u128) >> 64) as u32;
        self.errors && is_error || lot < self.per_million
    }
}

/// The text is no choice of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAnAccessLog;

impl fmt::Display for NotAnAccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not off, all, errors or a fraction")
    }
}

impl std::error::Error for NotAnAccessLog {}

impl FromStr for AccessLog {
    type Err = NotAnAccessLog;

    /// `off`, `all`, `errors`, a fraction such as `0.01`, or `errors` and a fraction.
    fn from_str(text: &str) -> Result<Self, NotAnAccessLog> {
        match text.to_ascii_lowercase().as_str() {
            "off" => Ok(Self::default()),
            "all" => Ok(Self::ALL),
            "errors" => Ok(Self::ERRORS),
            list => {
                let (errors, fraction) = match list.strip_prefix("errors,") {
                    Some(fraction) => (true, fraction.trim_start()),
                    None => (false, list),
                };
                let per_million = per_million(fraction).ok_or(NotAnAccessLog)?;
                Ok(Self {
                    errors,
                    per_million,
                })
            }
        }
    }
}

/// A fraction above 0, up to 1, with six decimals at the most.
fn per_million(text: &str) -> Option<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 6 {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let decimals: u32 = format!("{decimals:0<6}").parse().ok()?;
    let parts = whole.checked_mul(MILLION)?.checked_add(decimals)?;
    (1..=MILLION).contains(&parts).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_a_word_or_a_fraction_or_errors_and_a_fraction() {
        let parse = |text: &str| text.parse::<AccessLog>();
        assert_eq!(parse("off"), Ok(AccessLog::default()));
        assert_eq!(parse("ALL"), Ok(AccessLog::ALL));
        assert_eq!(parse("errors"), Ok(AccessLog::ERRORS));
        for (text, errors, per_million) in [
            ("0.01", false, 10_000),
            ("0.000001", false, 1),
            ("1", false, 1_000_000),
            ("1.0", false, 1_000_000),
            ("errors,0.5", true, 500_000),
            ("errors, 0.5", true, 500_000),
        ] {
            let expected = AccessLog {
                errors,
                per_million,
            };
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for odd in [
            "",
            "on",
            "0",
            "0.0",
            "1.1",
            "-0.1",
            "0.0000001",
            ".5",
            "1e-2",
            "errors,",
            "all,0.5",
            "0.5,errors",
            "99999999999",
        ] {
            assert_eq!(parse(odd), Err(NotAnAccessLog), "{odd}");
        }
    }

    #[test]
    fn a_fraction_takes_that_part_and_errors_all_of_theirs() {
        let tenth: AccessLog = "0.1".parse().unwrap();
        let lots = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let taken = (0..100_000).filter(|&n| tenth.takes(true, lots(n))).count();
        assert!((9_900..10_100).contains(&taken), "{taken}");
        assert!((0..1_000).all(|n| AccessLog::ALL.takes(false, lots(n))));
        assert!(AccessLog::ALL.takes(false, u64::MAX));
        assert!(AccessLog::ERRORS.takes(true, 7) && !AccessLog::ERRORS.takes(false, 0));
        assert!(!AccessLog::default().takes(true, 0) && AccessLog::default().is_off());
    }
}
