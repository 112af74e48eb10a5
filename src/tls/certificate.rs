//! What a certificate says about itself, for people: whose it is, who says so, until when.

use super::x509::{self, Validity};

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// A certificate as somebody wants to have it told. What it does not say, or says malformed, is left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// Whose it is: a name that it is for.
    name: Option<String>,
    /// Who says so.
    issuer: Option<String>,
    validity: Option<Validity>,
}

impl Certificate {
    /// Reads one (DER, RFC 5280 4.1).
    pub fn read(der: &[u8]) -> Self {
        let names = x509::names(der);
        Self {
            name: names.as_ref().and_then(|names| names.subject.clone()),
            issuer: names.and_then(|names| names.issuer),
            validity: Validity::of(der),
        }
    }

    /// One clause.
    pub fn about(&self) -> String {
        let name = self.name.as_deref().unwrap_or("nobody in particular");
        let mut text = format!("certificate of {name}");
        if let Some(issuer) = &self.issuer {
            text += &format!(" by {issuer}");
        }
        if let Some(validity) = self.validity {
            let (year, month, day) = x509::date(validity.not_after.div_euclid(DAY_S));
            text += &format!(", until {year}-{month:02}-{day:02}");
        }
        text
    }

    /// Whole days that are left of it, negative after its end; `None` if it does not say when that is.
    pub fn days_left(&self, unix_s: i64) -> Option<i64> {
        let validity = self.validity?;
        Some((validity.not_after - unix_s).div_euclid(DAY_S))
    }

    /// Whether it is not valid yet.
    pub fn is_early(&self, unix_s: i64) -> bool {
        self.validity
            .is_some_and(|validity| unix_s < validity.not_before)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    #[test]
    fn a_certificate_tells_name_issuer_and_end() {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        ca.distinguished_name
            .push(DnType::OrganizationName, "Trust us");
        ca.distinguished_name.push(DnType::CommonName, "Root 7");
        let issuer = Issuer::new(ca, ca_key);
        let key = KeyPair::generate().unwrap();
        let mut own =
            CertificateParams::new(vec!["discord.test".to_owned(), "b.test".to_owned()]).unwrap();
        own.distinguished_name = rcgen::DistinguishedName::new();
        own.not_before = rcgen::date_time_ymd(2026, 1, 2);
        own.not_after = rcgen::date_time_ymd(2028, 2, 29);
        let read = |own: &CertificateParams| {
            let signed = own.clone().signed_by(&key, &issuer).unwrap();
            Certificate::read(signed.der())
        };
        let unnamed = read(&own);
        assert_eq!(
            unnamed.about(),
            "certificate of discord.test by Root 7 (Trust us), until 2028-02-29"
        );
        own.distinguished_name.push(DnType::CommonName, "Its name");
        assert_eq!(read(&own).name.as_deref(), Some("Its name"));

        let end = 1_835_395_200;
        assert_eq!(unnamed.days_left(end - 86_400), Some(1));
        assert_eq!(unnamed.days_left(end - 1), Some(0));
        assert_eq!(unnamed.days_left(end + 1), Some(-1));
        assert!(unnamed.is_early(0) && !unnamed.is_early(end));
    }

    #[test]
    fn what_is_no_certificate_says_nothing() {
        let nothing = Certificate::read(b"\x30\x03abc");
        assert_eq!(nothing.about(), "certificate of nobody in particular");
        assert_eq!(nothing.days_left(0), None);
        assert!(!nothing.is_early(0));
    }
}
