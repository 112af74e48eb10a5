//! Why a start fails, with the line for the person who tried and the status to exit with.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::OneLine;
use crate::config::Wrong;

/// Why weir did not start.
///
/// The exit status is 2 where a setting has to be changed and 1 where the machine is in the way,
/// so that a service manager can tell which of the two to wait out.
#[derive(Debug)]
pub enum StartError {
    /// A setting is wrong. Exit status 2.
    Setting(Wrong),
    /// Another socket listens on the address. Exit status 1: it may go.
    BindInUse {
        /// The setting that named the port: `PORT`, `METRICS_PORT` or `FORWARD_PORT`.
        setting: &'static str,
        /// The address.
        addr: SocketAddr,
    },
    /// The address cannot be listened on for another reason: not of this machine, or a port that
    /// needs a privilege. Exit status 2.
    Bind {
        /// The setting that named the port: `PORT`, `METRICS_PORT` or `FORWARD_PORT`.
        setting: &'static str,
        /// The address.
        addr: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// `BIND_IP` or `FORWARD_BIND_IP` is no address of this machine. Exit status 2.
    BindIp {
        /// Which of the two.
        setting: &'static str,
        /// The address.
        ip: IpAddr,
    },
    /// `OUTBOUND_IP` is no address of this machine. Exit status 2.
    OutboundIp {
        /// The address.
        ip: IpAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file of certificates or a key cannot be read. Exit status 2.
    FileUnreadable {
        /// The setting that named it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file of certificates holds none. Exit status 2.
    NoCertificate {
        /// The setting that named it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A certificate is malformed. Exit status 2.
    CertificateMalformed {
        /// The setting that named the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Which of its certificates, from 1.
        certificate: usize,
    },
    /// A certificate is of X.509 version 1, which no TLS library takes. Exit status 2.
    CertificateVersion {
        /// The setting that named the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Which of its certificates, from 1.
        certificate: usize,
    },
    /// The sockets that were handed over cannot be used. Exit status 1.
    Sockets(String),
    /// A file of a private key holds none, or only one with a passphrase. Exit status 2.
    NoKey {
        /// The setting that named it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A private key is malformed or of a kind that is not known. Exit status 2.
    KeyUnusable {
        /// The setting that named the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// `TLS_KEY_FILE` is not the key of the first certificate in `TLS_CERT_FILE`. Exit status 2.
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// `STATE_FILE` lies where no file can be written. Exit status 2.
    StateFile {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// `UPSTREAM_URL` leads to the port that clients are served at. Exit status 2.
    UpstreamIsSelf {
        /// Where it leads.
        addr: SocketAddr,
    },
    /// `FORWARD_CREDENTIALS_FILE` is no list of `user:password`. Exit status 2.
    Credentials {
        /// The file.
        path: PathBuf,
        /// The first wrong line, from 1; `None` if the file names nobody.
        line: Option<usize>,
    },
    /// Redis answers, but not in a way that will ever do: password, rights, database, a cluster. Exit
    /// status 2.
    Redis {
        /// The setting that is to blame: `REDIS_PASSWORD`, `REDIS_DB` or `REDIS_ADDR`.
        setting: &'static str,
        /// `REDIS_ADDR`.
        address: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// `UPSTREAM_URL` names a host that TLS cannot check a certificate for. Exit status 2.
    UpstreamName {
        /// The host.
        host: String,
    },
    /// `IO_DRIVER=io_uring`, and the kernel refuses a ring. Exit status 1.
    RingRefused(io::Error),
    /// A worker or the control thread could not be started. Exit status 1.
    Thread(io::Error),
    /// The process may not open the files, signals or sockets it needs. Exit status 1.
    System {
        /// What was tried, to follow "cannot": `watch signals`.
        what: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl StartError {
    /// Status to exit with: 2 for the configuration, 1 for the machine.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Setting(_)
            | Self::Bind { .. }
            | Self::BindIp { .. }
            | Self::OutboundIp { .. }
            | Self::CertificateVersion { .. }
            | Self::FileUnreadable { .. }
            | Self::NoCertificate { .. }
            | Self::CertificateMalformed { .. }
            | Self::NoKey { .. }
            | Self::KeyUnusable { .. }
            | Self::KeyMismatch { .. }
            | Self::StateFile { .. }
            | Self::Credentials { .. }
            | Self::Redis { .. }
            | Self::UpstreamIsSelf { .. }
            | Self::UpstreamName { .. } => 2,
            Self::BindInUse { .. }
            | Self::Sockets(_)
            | Self::RingRefused(_)
            | Self::Thread(_)
            | Self::System { .. } => 1,
        }
    }

    /// An IO error of listening on `addr`.
    pub fn listening(setting: &'static str, addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::BindInUse { setting, addr },
            // The port is not to blame.
            io::ErrorKind::AddrNotAvailable => Self::BindIp {
                setting: match setting {
                    "FORWARD_PORT" => "FORWARD_BIND_IP",
                    _ => "BIND_IP",
                },
                ip: addr.ip(),
            },
            _ => Self::Bind {
                setting,
                addr,
                source,
            },
        }
    }
}

impl From<Wrong> for StartError {
    fn from(wrong: Wrong) -> Self {
        Self::Setting(wrong)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(wrong) => wrong.fmt(f),
            Self::BindInUse { setting, addr } => {
                write!(
                    f,
                    "{setting}: {addr} is in use by another socket; `ss -ltnp` tells whose, or take another port"
                )
            }
            Self::Bind {
                setting,
                addr,
                source,
            } => {
                let advice = match source.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "; ports below 1024 need CAP_NET_BIND_SERVICE, or a socket of systemd's"
                    }
                    _ => "",
                };
                write!(
                    f,
                    "{setting}: {addr} cannot be listened on; {}{advice}",
                    OneLine(source)
                )
            }
            Self::BindIp { setting, ip } => {
                write!(
                    f,
                    "{setting}: {ip} is no address of this machine; `ip addr` lists them, 0.0.0.0 means all"
                )
            }
            Self::OutboundIp { ip, source } => {
                write!(
                    f,
                    "OUTBOUND_IP: {ip} cannot be sent from; {}",
                    OneLine(source)
                )
            }
            Self::FileUnreadable {
                setting,
                path,
                source,
            } => {
                write!(f, "{setting}: {path:?} cannot be read; {}", OneLine(source))
            }
            Self::NoCertificate { setting, path } => {
                write!(
                    f,
                    "{setting}: {path:?} holds no certificate; PEM is expected"
                )
            }
            Self::CertificateMalformed {
                setting,
                path,
                certificate,
            } => {
                write!(
                    f,
                    "{setting}: certificate {certificate} in {path:?} is malformed"
                )
            }
            Self::CertificateVersion {
                setting,
                path,
                certificate,
            } => {
                write!(
                    f,
                    "{setting}: certificate {certificate} in {path:?} is of X.509 version 1, which clients refuse; \
                     `openssl req -x509 -addext subjectAltName=DNS:weir.example` makes one of version 3"
                )
            }
            Self::Sockets(what) => write!(f, "LISTEN_FDS: {what}"),
            Self::NoKey { setting, path } => {
                write!(
                    f,
                    "{setting}: {path:?} holds no private key; PEM without a passphrase is expected"
                )
            }
            Self::KeyUnusable { setting, path } => {
                write!(
                    f,
                    "{setting}: the private key in {path:?} is malformed or none of RSA, ECDSA and Ed25519"
                )
            }
            Self::KeyMismatch { certificate, key } => {
                write!(
                    f,
                    "TLS_KEY_FILE: {key:?} is not the key of the first certificate in {certificate:?}"
                )
            }
            Self::StateFile { path, source } => {
                write!(
                    f,
                    "STATE_FILE: {path:?} cannot be written; {}",
                    OneLine(source)
                )
            }
            Self::Credentials { path, line } => match line {
                Some(line) => write!(
                    f,
                    "FORWARD_CREDENTIALS_FILE: line {line} of {path:?} is not user:password, in at most 256 bytes and 1024 lines"
                ),
                None => write!(
                    f,
                    "FORWARD_CREDENTIALS_FILE: {path:?} names nobody; user:password on each line is expected"
                ),
            },
            Self::Redis {
                setting,
                address,
                source,
            } => {
                write!(
                    f,
                    "{setting}: Redis at {address} cannot be used: {}",
                    OneLine(source)
                )
            }
            Self::UpstreamIsSelf { addr } => {
                write!(
                    f,
                    "UPSTREAM_URL: {addr} is where this weir itself listens; requests would go round in circles"
                )
            }
            Self::UpstreamName { host } => {
                write!(
                    f,
                    "UPSTREAM_URL: {host:?} is no name that a certificate could be for"
                )
            }
            Self::RingRefused(source) => {
                write!(
                    f,
                    "IO_DRIVER: \"io_uring\" is refused by the kernel ({}); auto or epoll work here",
                    OneLine(source)
                )
            }
            Self::Thread(source) => write!(f, "cannot start a thread; {}", OneLine(source)),
            Self::System { what, source } => write!(f, "cannot {what}; {}", OneLine(source)),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Setting(wrong) => Some(wrong),
            Self::Bind { source, .. }
            | Self::OutboundIp { source, .. }
            | Self::FileUnreadable { source, .. }
            | Self::StateFile { source, .. }
            | Self::RingRefused(source)
            | Self::Thread(source)
            | Self::System { source, .. } => Some(source),
            Self::Redis { source, .. } => Some(&**source),
            Self::BindInUse { .. }
            | Self::BindIp { .. }
            | Self::CertificateVersion { .. }
            | Self::Sockets(_)
            | Self::NoCertificate { .. }
            | Self::CertificateMalformed { .. }
            | Self::NoKey { .. }
            | Self::KeyUnusable { .. }
            | Self::KeyMismatch { .. }
            | Self::Credentials { .. }
            | Self::UpstreamIsSelf { .. }
            | Self::UpstreamName { .. } => None,
        }
    }
}
