//! Whom weir believes: the TLS configuration of the upstream.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};

use super::sessions::Sessions;
use crate::error::StartError;
use crate::tls::pem;

/// The configuration of all workers' connections: TLS 1.3 and 1.2, ALPN `http/1.1`, session resumption, and
/// either Mozilla's roots or the certificates of `ca_file`.
///
/// # Errors
/// The file cannot be read or holds no certificate.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, StartError> {
    let roots = match ca_file {
        None => RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        },
        Some(path) => pem::roots("UPSTREAM_CA_FILE", path)?,
    };
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
