//! The files of the listening side's TLS, which only make sense together.

use std::path::PathBuf;

use super::{Config, Wrong};

/// What TLS on the listening side is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients' certificates; `None` asks clients for none.
    pub client_ca: Option<PathBuf>,
}

impl Config {
    /// The files of the listening side's TLS; `None` for plain HTTP.
    ///
    /// # Errors
    /// One is set without the other that it needs, or in a cluster.
    pub fn tls_files(&self) -> Result<Option<TlsFiles>, Wrong> {
        let lone = |name: &str, path: &PathBuf, allowed| Wrong::Value {
            place: name.to_owned(),
            value: path.display().to_string(),
            allowed,
        };
        if let (Some(path), true) = (&self.tls_cert_file, self.is_clustered()) {
            // The others would relay to it in plain HTTP, and its share of all bots would be told 400.
            let allowed = "not in a cluster: nodes relay to each other in plain HTTP on PORT";
            return Err(lone("TLS_CERT_FILE", path, allowed));
        }
        match (
            &self.tls_cert_file,
            &self.tls_key_file,
            &self.tls_client_ca_file,
        ) {
            (Some(certificate), Some(key), client_ca) => Ok(Some(TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                client_ca: client_ca.clone(),
            })),
            (Some(path), None, _) => Err(lone("TLS_CERT_FILE", path, "only beside TLS_KEY_FILE")),
            (None, Some(path), _) => Err(lone("TLS_KEY_FILE", path, "only beside TLS_CERT_FILE")),
            (None, None, Some(path)) => Err(lone(
                "TLS_CLIENT_CA_FILE",
                path,
                "only beside TLS_CERT_FILE and TLS_KEY_FILE",
            )),
            (None, None, None) => Ok(None),
        }
    }
}
