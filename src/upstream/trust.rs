//! Whom weir believes: the TLS configuration of the upstream.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::sessions::Sessions;
use crate::error::StartError;

/// The configuration of all workers' connections: TLS 1.3 and 1.2, ALPN `http/1.1`, session resumption, and
/// either Mozilla's roots or the certificates of `ca_file`.
///
/// # Errors
/// The file cannot be read or holds no certificate.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, StartError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            for (index, certificate) in read_certificates(path)?.into_iter().enumerate() {
                roots
                    .add(certificate)
                    .map_err(|_| StartError::CaMalformed {
                        path: path.to_owned(),
                        certificate: index + 1,
                    })?;
            }
        }
    }
    let mut config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| StartError::System {
                what: "set up TLS",
                source: std::io::Error::other(error),
            })?
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // For `records`, which seals and opens in place.
    config.enable_secret_extraction = true;
    config.resumption = Resumption::store(Arc::new(Sessions::new()));
    Ok(Arc::new(config))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let pem = std::fs::read(path).map_err(|source| StartError::CaUnreadable {
        path: path.to_owned(),
        source,
    })?;
    let mut certificates = Vec::new();
    for (index, certificate) in CertificateDer::pem_slice_iter(&pem).enumerate() {
        certificates.push(certificate.map_err(|_| StartError::CaMalformed {
            path: path.to_owned(),
            certificate: index + 1,
        })?);
    }
    if certificates.is_empty() {
        return Err(StartError::CaWithoutCertificate {
            path: path.to_owned(),
        });
    }
    Ok(certificates)
}
