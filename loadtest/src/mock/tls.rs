//! The mock's identity: a certificate authority made at start, and a certificate by it.

use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring::{self, Ticketer};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// How the mock shows itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tls {
    /// No TLS.
    Plain,
    /// TLS 1.3 with a good certificate for `localhost`, `127.0.0.1` and `discord.com`.
    #[default]
    Valid,
    /// A certificate that ended in 2021.
    Expired,
    /// A certificate for another name.
    WrongName,
}

/// A server configuration and the authority that vouches for it.
#[derive(Debug)]
pub struct Identity {
    /// The authority's certificate.
    pub ca_pem: String,
    /// The certificate and its key, for other servers.
    pub cert_pem: String,
    /// See `cert_pem`.
    pub key_pem: String,
    /// What connections are served with.
    pub config: Arc<ServerConfig>,
}

impl Identity {
    /// Makes an authority and a certificate; `None` for [`Tls::Plain`].
    ///
    /// # Errors
    /// When the random source or the encoding of certificates fails.
    pub fn make(tls: Tls) -> io::Result<Option<Self>> {
        if tls == Tls::Plain {
            return Ok(None);
        }
        let authority = authority().map_err(io::Error::other)?;
        let names: &[&str] = match tls {
            Tls::WrongName => &["elsewhere.example"],
            Tls::Plain | Tls::Valid | Tls::Expired => &["localhost", "127.0.0.1", "discord.com"],
        };
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "mock Discord");
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
        params.use_authority_key_identifier_extension = true;
        if tls == Tls::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let leaf = params
            .signed_by(&key, &authority)
            .map_err(io::Error::other)?;
        let (cert_pem, key_pem) = (leaf.pem(), key.serialize_pem());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = Ticketer::new().map_err(io::Error::other)?;
        let ca_pem = authority.pem();
        Ok(Some(Self {
            ca_pem,
            cert_pem,
            key_pem,
            config: Arc::new(config),
        }))
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "mock Discord authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}
