//! Certificates and keys from PEM files (RFC 7468), with errors that name setting and file.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::StartError;

/// All certificates of a file, at least one; anything else in it is passed over.
///
/// # Errors
/// The file cannot be read, or holds no certificate, or a malformed one.
pub fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let pem = read(setting, path)?;
    let mut certificates = Vec::new();
    for (index, certificate) in CertificateDer::pem_slice_iter(&pem).enumerate() {
        certificates.push(certificate.map_err(|_| malformed(setting, path, index))?);
    }
    if certificates.is_empty() {
        return Err(StartError::NoCertificate {
            setting,
            path: path.to_owned(),
        });
    }
    Ok(certificates)
}

/// The certificates of a file as those that others are signed by.
///
/// # Errors
/// As [`certificates`].
pub fn roots(setting: &'static str, path: &Path) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(setting, path)?.into_iter().enumerate() {
        roots
            .add(certificate)
            .map_err(|_| malformed(setting, path, index))?;
    }
    Ok(roots)
}

/// The first private key of a file, which is not encrypted.
///
/// # Errors
/// The file cannot be read or holds no key.
pub fn private_key(
    setting: &'static str,
    path: &Path,
) -> Result<PrivateKeyDer<'static>, StartError> {
    let path_owned = || path.to_owned();
    PrivateKeyDer::from_pem_slice(&read(setting, path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => StartError::NoKey {
            setting,
            path: path_owned(),
        },
        _ => StartError::KeyUnusable {
            setting,
            path: path_owned(),
        },
    })
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|source| StartError::FileUnreadable {
        setting,
        path: path.to_owned(),
        source,
    })
}

/// The certificate at `index` is malformed.
pub(super) fn malformed(setting: &'static str, path: &Path, index: usize) -> StartError {
    StartError::CertificateMalformed {
        setting,
        path: path.to_owned(),
        certificate: index + 1,
    }
}
