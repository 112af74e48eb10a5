//! When a certificate begins and ends to be valid. rustls checks that of certificates shown to it, but
//! not of weir's own, which its clients will; and has no way to ask.

/// DER's tags (X.690 8): all that stand before a certificate's validity.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The time in which a certificate is valid, in seconds since 1970, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

impl Validity {
    /// Reads it from a certificate (RFC 5280 4.1); `None` if that is malformed.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = take(certificate, SEQUENCE)?;
        let (mut rest, _) = take(certificate, SEQUENCE)?;
        if let Some((_, behind)) = take(rest, VERSION) {
            rest = behind;
        }
        // Serial number, signature algorithm, issuer.
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            rest = take(rest, tag)?.1;
        }
        let (validity, _) = take(rest, SEQUENCE)?;
        let (not_before, rest) = time(validity)?;
        let (not_after, _) = time(rest)?;
        Some(Self {
            not_before,
            not_after,
        })
    }
}

/// Whether it is a certificate of version 1, which names no version (RFC 5280 4.1.2.1) and cannot say
/// which names it is for.
pub fn is_version_1(certificate: &[u8]) -> bool {
    let inner = take(certificate, SEQUENCE).and_then(|(outer, _)| take(outer, SEQUENCE));
    inner.is_some_and(|(inner, _)| take(inner, INTEGER).is_some())
}

/// Whom a certificate is of, and who says so.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Names {
    /// The subject's common name, else the first name of a host that it is for.
    pub(super) subject: Option<String>,
    /// The issuer's common name and organization, as far as it has them.
    pub(super) issuer: Option<String>,
}

/// The attributes of a name that people know (X.520): common name, organization.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ORGANIZATION: &[u8] = &[0x55, 4, 10];
/// The extension with the names that a certificate is for (RFC 5280 4.2.1.6).
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];

const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const BOOLEAN: u8 = 0x01;
const EXTENSIONS: u8 = 0xa3;
/// A name of a host in [`SUBJECT_ALT_NAME`].
const DNS_NAME: u8 = 0x82;

/// Reads the names of a certificate (RFC 5280 4.1); `None` if it is malformed.
pub(super) fn names(certificate: &[u8]) -> Option<Names> {
    let (certificate, _) = take(certificate, SEQUENCE)?;
    let (mut rest, _) = take(certificate, SEQUENCE)?;
    if let Some((_, behind)) = take(rest, VERSION) {
        rest = behind;
    }
    // Serial number, signature algorithm.
    for tag in [INTEGER, SEQUENCE] {
        rest = take(rest, tag)?.1;
    }
    let (issuer, rest) = take(rest, SEQUENCE)?;
    let (_validity, rest) = take(rest, SEQUENCE)?;
    let (subject, rest) = take(rest, SEQUENCE)?;
    // The public key.
    let (_, rest) = take(rest, SEQUENCE)?;
    let issuer = match (
        attribute(issuer, COMMON_NAME),
        attribute(issuer, ORGANIZATION),
    ) {
        (Some(name), Some(organization)) => Some(format!("{name} ({organization})")),
        (name, organization) => name.or(organization),
    };
    Some(Names {
        subject: attribute(subject, COMMON_NAME).or_else(|| host_name(rest)),
        issuer,
    })
}

/// An attribute of a name (RFC 5280 4.1.2.4).
fn attribute(mut name: &[u8], of: &[u8]) -> Option<String> {
    while let Some((set, behind)) = take(name, SET) {
        name = behind;
        let (pair, _) = take(set, SEQUENCE)?;
        let (kind, value) = take(pair, OBJECT_ID)?;
        if kind == of {
            let (&tag, _) = value.split_first()?;
            return printable(take(value, tag)?.0);
        }
    }
    None
}

/// The first host that a certificate is for, by its extensions; what stands before them is passed over.
fn host_name(mut rest: &[u8]) -> Option<String> {
    let extensions = loop {
        let (&tag, _) = rest.split_first()?;
        let (content, behind) = take(rest, tag)?;
        if tag == EXTENSIONS {
            break content;
        }
        rest = behind;
    };
    let (mut extensions, _) = take(extensions, SEQUENCE)?;
    while let Some((extension, behind)) = take(extensions, SEQUENCE) {
        extensions = behind;
        let (kind, mut value) = take(extension, OBJECT_ID)?;
        if kind != SUBJECT_ALT_NAME {
            continue;
        }
        // Whether it is critical.
        if let Some((_, behind)) = take(value, BOOLEAN) {
            value = behind;
        }
        let (mut names, _) = take(take(value, OCTETS)?.0, SEQUENCE)?;
        while let Some((&tag, _)) = names.split_first() {
            let (name, behind) = take(names, tag)?;
            if tag == DNS_NAME {
                return printable(name);
            }
            names = behind;
        }
    }
    None
}

/// Text that may be printed: of a stranger's certificate, nothing that steers a terminal.
fn printable(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// Year, month and day of a day since 1970-01-01; the reverse of [`days`].
pub(super) fn date(since_1970: i64) -> (i64, i64, i64) {
    let days = since_1970 + 719_468;
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 {
        (era * 400 + year, month + 3)
    } else {
        (era * 400 + year + 1, month - 9)
    };
    (year, month, of_month)
}

/// The content of the element that `der` begins with, if it has this tag, and what follows it.
fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, der) = der.split_first()?;
    let (&first, der) = der.split_first()?;
    let (len, der) = match first {
        0..=0x7f => (usize::from(first), der),
        // A length of a few bytes; a certificate has no element of more.
        0x81..=0x83 => {
            let (bytes, der) = der.split_at_checked(usize::from(first & 0x0f))?;
            let len = bytes
                .iter()
                .fold(0, |len, &byte| len << 8 | usize::from(byte));
            (len, der)
        }
        _ => return None,
    };
    (found == tag).then_some(())?;
    der.split_at_checked(len)
}

/// The time that `der` begins with, and what follows it (RFC 5280 4.1.2.5: always UTC, with seconds).
fn time(der: &[u8]) -> Option<(i64, &[u8])> {
    let (year, rest, behind) = match take(der, UTC_TIME) {
        Some((text, behind)) => {
            let (year, rest) = digits(text)?;
            (
                if year >= 50 { 1900 + year } else { 2000 + year },
                rest,
                behind,
            )
        }
        None => {
            let (text, behind) = take(der, GENERALIZED_TIME)?;
            let (century, rest) = digits(text)?;
            let (year, rest) = digits(rest)?;
            (century * 100 + year, rest, behind)
        }
    };
    let (month, rest) = digits(rest)?;
    let (day, rest) = digits(rest)?;
    let (hour, rest) = digits(rest)?;
    let (minute, rest) = digits(rest)?;
    let (second, rest) = digits(rest)?;
    let sound = (1..=12).contains(&month) && (1..=31).contains(&day) && rest == b"Z";
    let days = days(year, month, day);
    sound.then_some((((days * 24 + hour) * 60 + minute) * 60 + second, behind))
}

/// Two decimal digits.
fn digits(text: &[u8]) -> Option<(i64, &[u8])> {
    let (&[tens, ones], rest) = text.split_first_chunk()?;
    (tens.is_ascii_digit() && ones.is_ascii_digit())
        .then(|| (i64::from(tens - b'0') * 10 + i64::from(ones - b'0'), rest))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar; the year begins in March, so that the day
/// that is not always there comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    // The months from March on have 31, 30, 31, 30, 31 days, twice over.
    let before_month = (153 * month + 2) / 5;
    365 * year + year / 4 - year / 100 + year / 400 + before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An element of DER.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = content.len();
        let mut out = vec![tag];
        match len {
            0..=0x7f => out.push(len as u8),
            0x80..=0xff => out.extend([0x81, len as u8]),
            _ => out.extend([0x82, (len >> 8) as u8, len as u8]),
        }
        out.extend(content);
        out
    }

    fn certificate(version: bool, times: &[u8], issuer_len: usize) -> Vec<u8> {
        let mut inner = Vec::new();
        if version {
            inner.extend(der(VERSION, &der(INTEGER, &[2])));
        }
        inner.extend(der(INTEGER, &[1, 2, 3]));
        inner.extend(der(SEQUENCE, &[6, 1, 42]));
        inner.extend(der(SEQUENCE, &vec![0; issuer_len]));
        inner.extend(der(SEQUENCE, times));
        inner.extend(der(SEQUENCE, b"subject and more"));
        der(
            SEQUENCE,
            &[der(SEQUENCE, &inner), der(SEQUENCE, b"signature")].concat(),
        )
    }

    fn times(before: &[u8], after: &[u8]) -> Vec<u8> {
        let time = |text: &[u8]| {
            let tag = if text.len() == 13 {
                UTC_TIME
            } else {
                GENERALIZED_TIME
            };
            der(tag, text)
        };
        [time(before), time(after)].concat()
    }

    #[test]
    fn both_ends_are_read_in_both_forms() {
        for (before, after, expected) in [
            (&b"700101000000Z"[..], &b"700101000001Z"[..], (0, 1)),
            (b"691231235959Z", b"19700102000000Z", (-1, 86_400)),
            (
                b"491231235959Z",
                b"20500101000000Z",
                (2_524_607_999, 2_524_608_000),
            ),
            (
                b"240229120000Z",
                b"240301000000Z",
                (1_709_208_000, 1_709_251_200),
            ),
            (
                b"20000229000000Z",
                b"99991231235959Z",
                (951_782_400, 253_402_300_799),
            ),
            (
                b"261122090000Z",
                b"270101000000Z",
                (1_795_338_000, 1_798_761_600),
            ),
        ] {
            for (version, issuer_len) in [(true, 20), (false, 200), (true, 5000)] {
                let (not_before, not_after) = expected;
                assert_eq!(
                    Validity::of(&certificate(version, &times(before, after), issuer_len)),
                    Some(Validity {
                        not_before,
                        not_after
                    }),
                );
            }
        }
    }

    #[test]
    fn a_date_is_the_reverse_of_its_days() {
        for day in (-200_000..200_000).step_by(7) {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
            assert!((1..=12).contains(&month) && (1..=31).contains(&of_month));
        }
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
    }

    #[test]
    fn a_certificate_without_a_version_is_of_version_1() {
        let times = times(b"700101000000Z", b"700101000001Z");
        assert!(is_version_1(&certificate(false, &times, 20)));
        assert!(!is_version_1(&certificate(true, &times, 20)));
        assert!(!is_version_1(b""));
    }

    #[test]
    fn what_is_no_certificate_has_no_validity() {
        let whole = certificate(true, &times(b"700101000000Z", b"700101000001Z"), 20);
        let end = whole.len() - b"signature".len() - b"subject and more".len() - 4;
        for len in 0..end {
            assert_eq!(Validity::of(&whole[..len]), None, "{len} bytes");
        }
        for wrong in [
            &b"700101000000+"[..],
            b"701301000000Z",
            b"7001x1000000Z",
            b"700100000000Z",
        ] {
            let wrong = times(wrong, b"700101000001Z");
            assert_eq!(Validity::of(&certificate(true, &wrong, 20)), None);
        }
    }
}
