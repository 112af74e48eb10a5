//! Whom a node of the cluster believes that it is one, and what it shows them itself.
//!
//! ```text
//! relays, hand-overs, shards: this node ── believes CLUSTER_CA_FILE, the address or CLUSTER_TLS_NAME
//!                                       ── shows TLS_CERT_FILE, if it is asked for a certificate ─▶ node
//! ```
//!
//! Sessions are not resumed between nodes: connections are few and live long, and each shows the
//! certificate anew.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, Error, RootCertStore};

use super::{Current, Trust, pem};
use crate::config::{Config, NodeTls, TlsFiles, Wrong};
use crate::error::StartError;

const AUTHORITIES: &str = "CLUSTER_CA_FILE";
const NAME: &str = "CLUSTER_TLS_NAME";

/// See the module's documentation.
#[derive(Debug)]
pub struct NodeTrust {
    files: NodeTls,
    /// What certificates must be made out for, instead of the node's address.
    name: Option<ServerName<'static>>,
    current: Arc<Current<ClientConfig>>,
}

impl NodeTrust {
    /// Reads the files that `config` names.
    ///
    /// # Errors
    /// A file is missing, unreadable or malformed, or `CLUSTER_TLS_NAME` is no name.
    pub fn load(config: &Config) -> Result<Self, StartError> {
        let files = config.node_tls()?;
        let name = files.name.as_ref().map(|name| {
            ServerName::try_from(name.clone()).map_err(|_| {
                StartError::Setting(Wrong::Value {
                    place: NAME.to_owned(),
                    value: name.clone(),
                    allowed: "a host name",
                })
            })
        });
        Ok(Self {
            name: name.transpose()?,
            current: Arc::new(Current::new(client_config(&files)?)),
            files,
        })
    }

    /// Reads the files again; what is returned has connections from then on use them.
    ///
    /// # Errors
    /// As [`NodeTrust::load`].
    pub fn read_again(&self) -> Result<impl FnOnce() + '_, StartError> {
        let fresh = client_config(&self.files)?;
        Ok(move || self.current.exchange(fresh))
    }

    /// Whether anybody can be believed.
    pub const fn is_any(&self) -> bool {
        self.files.authorities.is_some()
    }

    /// What the node at this address has to prove.
    pub fn towards(&self, ip: IpAddr) -> Trust {
        Trust {
            name: self.name_of(ip),
            config: self.current.clone(),
        }
    }

    fn name_of(&self, ip: IpAddr) -> ServerName<'static> {
        let by_address = || ServerName::IpAddress(ip.to_canonical().into());
        self.name.clone().unwrap_or_else(by_address)
    }

    /// Why the others would not believe this node, at this address, if they believe whom it believes
    /// itself; `None` if they would, or it has no certificate.
    pub fn doubt(&self, ip: IpAddr, unix_ms: u64) -> Option<Error> {
        let (files, authorities) = (self.files.own.as_ref()?, self.files.authorities.as_ref()?);
        // Both could be read when they were loaded.
        let chain = pem::certificates("TLS_CERT_FILE", &files.certificate).ok()?;
        let roots = pem::roots(AUTHORITIES, authorities).ok()?;
        let (leaf, rest) = chain.split_first()?;
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let now = UnixTime::since_unix_epoch(Duration::from_millis(unix_ms));
        let rest: &[CertificateDer<'_>] = rest;
        verifier
            .ok()?
            .verify_server_cert(leaf, rest, &self.name_of(ip), &[], now)
            .err()
    }
}

fn client_config(files: &NodeTls) -> Result<Arc<ClientConfig>, StartError> {
    let set_up = |error: Error| StartError::System {
        what: "set up TLS between nodes",
        source: std::io::Error::other(error),
    };
    let roots = match &files.authorities {
        Some(path) => pem::roots(AUTHORITIES, path)?,
        // Nobody is believed.
        None => RootCertStore::empty(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(set_up)?
        .with_root_certificates(roots);
    let mut config = match &files.own {
        None => builder.with_no_client_auth(),
        Some(TlsFiles {
            certificate, key, ..
        }) => builder
            .with_client_auth_cert(
                pem::certificates("TLS_CERT_FILE", certificate)?,
                pem::private_key("TLS_KEY_FILE", key)?,
            )
            .map_err(|_| StartError::KeyMismatch {
                certificate: certificate.clone(),
                key: key.clone(),
            })?,
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // For `records`, which seals and opens in place.
    config.enable_secret_extraction = true;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
