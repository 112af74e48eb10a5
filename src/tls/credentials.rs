//! What weir shows its clients, and what it asks of them: certificate and key from files, read at the
//! start and again when told to.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, Ticketer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys, ServerConfig};

use super::x509::{self, Validity};
use super::{Certificate, Current, pem};
use crate::config::{Config, TlsFiles};
use crate::error::StartError;

const CERTIFICATE: &str = "TLS_CERT_FILE";
const KEY: &str = "TLS_KEY_FILE";
const CLIENT_CA: &str = "TLS_CLIENT_CA_FILE";

/// The TLS of the listening side.
#[derive(Debug)]
pub struct Credentials {
    files: TlsFiles,
    current: Current<ServerConfig>,
    /// What clients are shown first, when the files were read first.
    leaf: Certificate,
}

impl Credentials {
    /// Reads the files that `config` names; `None` if clients speak plain HTTP. A certificate that is
    /// not valid at `unix_s` is told of in the log: clients will refuse it.
    ///
    /// # Errors
    /// A file is missing, unreadable or malformed, or the key is of another certificate.
    pub fn load(config: &Config, unix_s: u64) -> Result<Option<Self>, StartError> {
        let Some(files) = config.tls_files()? else {
            return Ok(None);
        };
        let (current, leaf) = server_config(&files, unix_s)?;
        let current = Current::new(current);
        Ok(Some(Self {
            files,
            current,
            leaf,
        }))
    }

    /// The certificate that clients are shown, as it was at the start.
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// What a connection that begins now uses.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.now()
    }

    /// Reads the files again; what is returned has connections from then on use them. Sessions that began
    /// before are not resumed: a ticket vouches for a client's certificate, which the new authority may not.
    ///
    /// # Errors
    /// As [`Credentials::load`].
    pub fn read_again(&self, unix_s: u64) -> Result<impl FnOnce() + '_, StartError> {
        let (fresh, _) = server_config(&self.files, unix_s)?;
        Ok(move || self.current.exchange(fresh))
    }
}

fn server_config(
    files: &TlsFiles,
    unix_s: u64,
) -> Result<(Arc<ServerConfig>, Certificate), StartError> {
    let provider = Arc::new(ring::default_provider());
    let set_up = |error: Error| StartError::System {
        what: "set up TLS",
        source: std::io::Error::other(error),
    };
    let certified = certified(files, &provider, unix_s)?;
    let leaf = certified.cert.first();
    let leaf = Certificate::read(leaf.map_or(&[], |leaf| leaf));
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(set_up)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(pem::roots(CLIENT_CA, path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| set_up(Error::General(error.to_string())))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // For `records`, which seals and opens in place.
    config.enable_secret_extraction = true;
    // Sessions live in tickets that clients keep, and weir remembers none.
    config.ticketer = Ticketer::new().map_err(set_up)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok((Arc::new(config), leaf))
}

/// Certificate and key, which belong to each other.
fn certified(
    files: &TlsFiles,
    provider: &CryptoProvider,
    unix_s: u64,
) -> Result<CertifiedKey, StartError> {
    let chain = pem::certificates(CERTIFICATE, &files.certificate)?;
    if let Some(at) = chain.iter().position(|der| x509::is_version_1(der)) {
        return Err(StartError::CertificateVersion {
            setting: CERTIFICATE,
            path: files.certificate.clone(),
            certificate: at + 1,
        });
    }
    let key = pem::private_key(KEY, &files.key)?;
    let loaded = provider.key_provider.load_private_key(key);
    let key = loaded.map_err(|_| StartError::KeyUnusable {
        setting: KEY,
        path: files.key.clone(),
    })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            return Err(StartError::KeyMismatch {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
            });
        }
        Err(_) => return Err(pem::malformed(CERTIFICATE, &files.certificate, 0)),
    }
    let now = i64::try_from(unix_s).unwrap_or(i64::MAX);
    match certified.cert.first().and_then(|leaf| Validity::of(leaf)) {
        Some(validity) if now > validity.not_after => {
            tracing::warn!(file = %files.certificate.display(), "TLS_CERT_FILE: the certificate has expired; clients will refuse it");
        }
        Some(validity) if now < validity.not_before => {
            tracing::warn!(file = %files.certificate.display(), "TLS_CERT_FILE: the certificate is not valid yet; clients will refuse it");
        }
        Some(_) | None => {}
    }
    Ok(certified)
}
