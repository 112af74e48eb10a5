//! Who may use the forward proxy: names and passwords, and `Proxy-Authorization` (RFC 7617) against
//! them.
//!
//! A comparison takes as long whether the first byte differs or the last, and whichever line of the
//! file is meant: all of them are compared in full.

use std::fmt;
use std::hint::black_box;

use crate::route::base64;

/// Bytes of one `user:password`. Each comparison covers them all.
pub const CREDENTIAL_BYTES_MAX: usize = 256;

/// Lines of a file: at a quarter of a microsecond each, checking one request takes 0.3 ms at the most.
pub const CREDENTIALS_MAX: usize = 1_024;

type Padded = [u8; CREDENTIAL_BYTES_MAX];

/// Those who may use it. Shows nothing of them.
#[derive(Clone)]
pub struct Credentials {
    /// Each padded with zeros, which no credential holds.
    known: Vec<Padded>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// The first line that is no `user:password`, from 1; or that there is none. The line is a secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadCredentials {
    /// This line is not of that form, too long, or one too many.
    Line(usize),
    /// There is none, so that nobody could use the proxy.
    Empty,
}

impl Credentials {
    /// Reads a file: one `user:password` on each line; empty lines, and those that begin with `#`,
    /// mean nothing.
    ///
    /// # Errors
    /// See [`BadCredentials`].
    pub fn parse(file: &[u8]) -> Result<Self, BadCredentials> {
        let mut known = Vec::new();
        for (at, line) in file.split(|&byte| byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let has_name = line.iter().position(|&byte| byte == b':') > Some(0);
            let padded = pad(line).filter(|_| has_name && known.len() < CREDENTIALS_MAX);
            known.push(padded.ok_or(BadCredentials::Line(at + 1))?);
        }
        if known.is_empty() {
            return Err(BadCredentials::Empty);
        }
        Ok(Self { known })
    }

    /// Whether the value of a `Proxy-Authorization` is of somebody who is known.
    pub fn accept(&self, value: &[u8]) -> bool {
        let Some(encoded) = basic(value) else {
            return false;
        };
        let mut decoded = [0; CREDENTIAL_BYTES_MAX];
        let given = base64::decode(encoded, &mut decoded).and_then(pad);
        let given = given.unwrap_or([0; CREDENTIAL_BYTES_MAX]);
        let mut any = false;
        for known in &self.known {
            any |= black_box(is_same(known, &given));
        }
        any
    }
}

/// What follows `Basic`, whose case means nothing.
fn basic(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"Basic ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Basic ")
        .then(|| rest.trim_ascii())
}

/// `None` for what is too long, and for what holds the byte that pads.
fn pad(bytes: &[u8]) -> Option<Padded> {
    let mut padded = [0; CREDENTIAL_BYTES_MAX];
    padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
    (!bytes.contains(&0)).then_some(padded)
}

fn is_same(a: &Padded, b: &Padded) -> bool {
    let differ = a
        .iter()
        .zip(b)
        .fold(0, |all, (a, b)| black_box(all | (a ^ b)));
    differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_stands_in_the_file_is_accepted_and_nobody_else() {
        let file = b"# mine\r\nAladdin:open sesame\r\n\r\nbob:\nc:a:b\n";
        let credentials = Credentials::parse(file).unwrap();
        for (value, expected) in [
            // RFC 7617's own example.
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", true),
            ("basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", true),
            ("BASIC  QWxhZGRpbjpvcGVuIHNlc2FtZQ== ", true),
            ("Basic Ym9iOg==", true),
            ("Basic YzphOmI=", true),
            ("Basic YzphOmM=", false),
            ("Basic YzphOg==", false),
            ("Basic Ym9iOngg", false),
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQAA", false),
            ("Basic", false),
            ("Basic ", false),
            ("Basic !", false),
            ("Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", false),
            ("Basic IyBtaW5l", false),
            ("", false),
        ] {
            assert_eq!(credentials.accept(value.as_bytes()), expected, "{value}");
        }
        let long = format!("Basic {}", "QUFB".repeat(CREDENTIAL_BYTES_MAX));
        assert!(!credentials.accept(long.as_bytes()));
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number_alone() {
        for (file, expected) in [
            (&b"a:b\n\nnobody\n"[..], BadCredentials::Line(3)),
            (b":password", BadCredentials::Line(1)),
            (b"a:\0", BadCredentials::Line(1)),
            (b"# nobody yet\n", BadCredentials::Empty),
            (b"", BadCredentials::Empty),
        ] {
            assert_eq!(Credentials::parse(file).unwrap_err(), expected);
        }
        let long = format!("a:{}", "b".repeat(CREDENTIAL_BYTES_MAX));
        let error = Credentials::parse(long.as_bytes()).unwrap_err();
        assert_eq!(error, BadCredentials::Line(1));
        let many = "a:b\n".repeat(CREDENTIALS_MAX + 1);
        let error = Credentials::parse(many.as_bytes()).unwrap_err();
        assert_eq!(error, BadCredentials::Line(CREDENTIALS_MAX + 1));
        assert_eq!(
            format!("{:?}", Credentials::parse(b"a:secret").unwrap()),
            "Credentials { .. }"
        );
    }
}
