//! Authorities, certificates in files, and clients that believe them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use weir::Config;

/// Who signs certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub struct Identity {
    pub cert: String,
    pub key: String,
}

/// The same in files.
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        Self { issuer }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate of weir's, for `localhost`.
    pub fn server(&self) -> Identity {
        self.issue(2020, 2099, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate of weir's that has ended.
    pub fn expired(&self) -> Identity {
        self.issue(2020, 2021, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate.
    pub fn client(&self) -> Identity {
        self.issue(2020, 2099, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A certificate of a node of a cluster, for these names and addresses, to show to both sides.
    pub fn node(&self, names: &[&str]) -> Identity {
        let purposes = [
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.issue_for(names, 2020, 2099, &purposes)
    }

    fn issue(&self, from: i32, to: i32, purpose: ExtendedKeyUsagePurpose) -> Identity {
        self.issue_for(&["localhost", "127.0.0.1"], from, to, &[purpose])
    }

    fn issue_for(
        &self,
        names: &[&str],
        from: i32,
        to: i32,
        purposes: &[ExtendedKeyUsagePurpose],
    ) -> Identity {
        let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        params.extended_key_usages = purposes.to_vec();
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            cert: leaf.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A client that believes this authority, and shows `identity`.
    pub fn believer(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<&Identity>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let cert = CertificateDer::from_pem_slice(identity.cert.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
                builder
                    .with_client_auth_cert(vec![cert.expect("PEM")], key.expect("PEM"))
                    .expect("a certificate")
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

impl Identity {
    /// Writes it to new files.
    pub fn files(&self) -> Files {
        Files {
            cert: file(&self.cert),
            key: file(&self.key),
        }
    }
}

impl Files {
    /// What settings name them.
    pub fn apply(&self, config: &mut Config) {
        config.tls_cert_file = Some(self.cert.clone());
        config.tls_key_file = Some(self.key.clone());
    }

    /// Writes another identity over it.
    pub fn replace(&self, identity: &Identity) {
        std::fs::write(&self.cert, &identity.cert).expect("the file is written");
        std::fs::write(&self.key, &identity.key).expect("the file is written");
    }
}

/// A new file of this content.
pub fn file(content: &str) -> PathBuf {
    static FILES: AtomicU64 = AtomicU64::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let name = format!("tls-{}-{number}.pem", std::process::id());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).expect("the file is written");
    path
}
