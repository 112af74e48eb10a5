//! One request to a weir's metrics port.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::clock;
use crate::destination::Destination;
use crate::http1::{Method, Parse, parse_response};
use crate::status::{Status, VERSION};

/// What it says of itself.
const PATH: &str = "/nirn/status.json";

/// How long a look may take: a weir whose workers are stuck answers within a second.
const PATIENCE: Duration = Duration::from_secs(3);

/// Largest answer that is read: ten times what the longest lists make.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// A weir that is asked.
pub(super) struct Weir {
    at: Destination,
}

/// Why it did not say how it stands.
#[derive(Debug)]
pub(super) enum Silent {
    /// Nobody could be asked.
    Unreachable(String, io::Error),
    /// Somebody listens there, and says nothing, or breaks off.
    Hangs(String, io::Error),
    /// Somebody answered who is no weir, or one of long ago.
    Stranger(String, &'static str),
    /// It is a weir whose document is another.
    Version(String, u32),
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(at, error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                write!(
                    f,
                    "nothing listens at {at}; is weir running, with ENABLE_METRICS? --at HOST:PORT asks another"
                )
            }
            Self::Unreachable(at, error) => write!(
                f,
                "{at} cannot be reached ({error}); is that where weir runs, and is it neither stuck nor behind a \
                 firewall? --at HOST:PORT asks another"
            ),
            Self::Hangs(at, error) if is_timeout(error) => write!(
                f,
                "something listens at {at}, and has said nothing within {} s: if that is weir, it is stopped or \
                 stuck; look at its log, and at `ps` for its state; --at HOST:PORT asks another",
                PATIENCE.as_secs()
            ),
            Self::Hangs(at, error) => write!(
                f,
                "something listens at {at}, and breaks off ({error}): ALLOW_FROM of that weir may not let this \
                 machine in, or it has just ended; --at HOST:PORT asks another"
            ),
            Self::Stranger(at, what) => write!(f, "{at} is no metrics port of a weir: {what}"),
            Self::Version(at, version) => write!(
                f,
                "the weir at {at} tells of itself in version {version}, this one reads {VERSION}: use the `weir` \
                 that runs there"
            ),
        }
    }
}

impl Weir {
    /// The one at this address.
    pub(super) fn at(ip: IpAddr, port: u16) -> Self {
        let at = Destination {
            host: crate::destination::Host::Ip(ip),
            port,
        };
        Self { at }
    }

    /// The one that somebody names as `host:port`.
    pub(super) fn named(text: &str) -> Option<Self> {
        Destination::parse(text.as_bytes(), None).map(|at| Self { at })
    }

    /// Asks how it stands.
    pub(super) fn look(&self) -> Result<Status, Silent> {
        let at = self.at.to_string();
        let stream = self
            .connect()
            .map_err(|error| Silent::Unreachable(at.clone(), error))?;
        let answer = ask(stream, &at).map_err(|error| Silent::Hangs(at.clone(), error))?;
        let stranger = |what| Silent::Stranger(at.clone(), what);
        let Parse::Complete(head) = parse_response(&answer, Method::Get) else {
            return Err(stranger("what it says is no HTTP"));
        };
        if head.status != 200 {
            return Err(stranger(
                "it does not know /nirn/status.json; is it PORT, and METRICS_PORT another?",
            ));
        }
        let status: Status = serde_json::from_slice(&answer[head.len..])
            .map_err(|_| stranger("what it says of itself is no status"))?;
        match status.version {
            VERSION => Ok(status),
            0 => Err(stranger("what it says of itself is no status")),
            other => Err(Silent::Version(at, other)),
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let host = self.at.host.to_string();
        let addresses = (host.trim_matches(['[', ']']), self.at.port).to_socket_addrs()?;
        connect(addresses)
    }
}

fn ask(mut stream: TcpStream, authority: &str) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(PATIENCE))?;
    // On this machine it goes by its address alone, whatever /etc/hosts calls that.
    let peer = stream.peer_addr()?;
    let host = match peer.ip().is_loopback() {
        true => peer.to_string(),
        false => authority.to_owned(),
    };
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let until = clock::now() + PATIENCE;
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let left = until.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut chunk)?;
        answer.extend_from_slice(&chunk[..count]);
        if count == 0 && answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if count == 0 || answer.len() as u64 > ANSWER_BYTES_MAX {
            return Ok(answer);
        }
    }
}

/// Some systems call a timeout `WouldBlock`.
fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

fn connect(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
