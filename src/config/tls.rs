//! The files of the listening side's TLS, which only make sense together, and of TLS between nodes.

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

/// What TLS towards the other nodes of a cluster is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeTls {
    /// The authorities that nodes' certificates must be signed by; `None` believes nobody.
    pub authorities: Option<PathBuf>,
    /// The host name that all of them are made out for; `None` for each node's own address.
    pub name: Option<String>,
    /// What this node shows those that ask for a certificate: its own.
    pub own: Option<TlsFiles>,
}

impl Config {
    /// The files of TLS towards other nodes.
    ///
    /// # Errors
    /// As [`Config::tls_files`], or `CLUSTER_TLS_NAME` is set alone.
    pub fn node_tls(&self) -> Result<NodeTls, Wrong> {
        if let (Some(name), None) = (&self.cluster_tls_name, &self.cluster_ca_file) {
            return Err(Wrong::Value {
                place: "CLUSTER_TLS_NAME".to_owned(),
                value: name.clone(),
                allowed: "only beside CLUSTER_CA_FILE",
            });
        }
        Ok(NodeTls {
            authorities: self.cluster_ca_file.clone(),
            name: self.cluster_tls_name.clone(),
            own: self.tls_files()?,
        })
    }

    /// The files of the listening side's TLS; `None` for plain HTTP.
    ///
    /// # Errors
    /// One is set without the other that it needs.
    pub fn tls_files(&self) -> Result<Option<TlsFiles>, Wrong> {
        let lone = |name: &str, path: &PathBuf, allowed| Wrong::Value {
            place: name.to_owned(),
            value: path.display().to_string(),
            allowed,
        };
        if let (Some(path), true, None) = (
            &self.tls_cert_file,
            self.is_clustered(),
            &self.cluster_ca_file,
        ) {
            // It could reach no node that has a certificate, too.
            let allowed =
                "only beside CLUSTER_CA_FILE in a cluster: nodes speak TLS to each other then";
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
