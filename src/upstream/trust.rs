//! Whom weir believes: the TLS configuration of the upstream.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::sessions::Sessions;
use crate::error::StartError;
use crate::tls::pem;

/// The configuration of all workers' connections: TLS 1.3 and 1.2, ALPN `http/1.1`, session resumption, and
/// either Mozilla's roots or the certificates of `ca_file`.
///
/// # Errors
/// The file cannot be read or holds no certificate.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, StartError> {
    configured(verifier(ca_file)?)
}

/// The certificate that a server has shown (DER).
pub type Seen = Arc<Mutex<Option<Vec<u8>>>>;

/// [`client_config`], and the certificate that is shown is put into `seen`, whether it is believed or not.
///
/// # Errors
/// As [`client_config`].
pub fn watched_config(ca_file: Option<&Path>, seen: Seen) -> Result<Arc<ClientConfig>, StartError> {
    let verifier = verifier(ca_file)?;
    configured(Arc::new(Watched { verifier, seen }))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn set_up(error: impl std::error::Error + Send + Sync + 'static) -> StartError {
    StartError::System {
        what: "set up TLS",
        source: std::io::Error::other(error),
    }
}

/// What rustls makes of roots by itself.
fn verifier(ca_file: Option<&Path>) -> Result<Arc<WebPkiServerVerifier>, StartError> {
    let roots = match ca_file {
        None => RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        },
        Some(path) => pem::roots("UPSTREAM_CA_FILE", path)?,
    };
    WebPkiServerVerifier::builder_with_provider(roots.into(), provider())
        .build()
        .map_err(set_up)
}

fn configured(verifier: Arc<dyn ServerCertVerifier>) -> Result<Arc<ClientConfig>, StartError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(set_up)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // For `records`, which seals and opens in place.
    config.enable_secret_extraction = true;
    config.resumption = Resumption::store(Arc::new(Sessions::new()));
    Ok(Arc::new(config))
}

/// Keeps what is shown, and has it judged.
#[derive(Debug)]
struct Watched {
    verifier: Arc<WebPkiServerVerifier>,
    seen: Seen,
}

impl ServerCertVerifier for Watched {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Some(end_entity.to_vec());
        drop(seen);
        self.verifier
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
