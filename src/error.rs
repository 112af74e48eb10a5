//! What can go wrong: [`Error`] for one exchange, [`StartError`] for a start.
//!
//! An error of an exchange has a kind, from which follows everything a caller decides by: whose
//! side it is on, what the client is told, and whether the request may be sent again without
//! having been sent twice. Nothing here ever holds a path, a header or a body, so that printing an
//! error is always safe.

mod start;

use std::fmt;
use std::io;

pub use start::StartError;

/// Whose doing an error is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// The client of weir.
    Client,
    /// Discord, or the way to it.
    Upstream,
    /// Weir itself.
    Us,
}

/// What went wrong with one exchange.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// The client closed or reset its connection: nobody is left to answer.
    ClientGone,
    /// The client did not send in time what it had begun.
    ClientTimeout,
    /// The client's request is not HTTP as weir accepts it.
    BadRequest,
    /// The client's request head is larger than weir accepts.
    HeadTooLarge,

    /// The upstream's name has no address.
    Dns,
    /// The upstream refused the connection.
    ConnectRefused,
    /// The upstream did not take the connection in time.
    ConnectTimeout,
    /// The connection failed for another reason, such as an unreachable network.
    ConnectFailed,
    /// The TLS handshake failed.
    TlsHandshake,
    /// The upstream's certificate is not valid: expired, unknown, or for another name.
    TlsCertificate,
    /// The upstream closed the connection before the first byte of its answer.
    ClosedBeforeAnswer,
    /// The upstream reset the connection.
    Reset,
    /// What the upstream sent is not HTTP as weir accepts it.
    GarbageAnswer,
    /// The head of the answer did not come in time (`REQUEST_TIMEOUT`).
    AnswerTimeout,
    /// The answer's body ended before its end, or stalled.
    BodyTruncated,

    /// Weir is stopping.
    Draining,
    /// A bound of weir's is met: connections, waiting requests or memory.
    Full,
}

impl Kind {
    /// Every kind, in the order of declaration: for tables and metrics.
    pub const ALL: [Self; 17] = [
        Self::ClientGone,
        Self::ClientTimeout,
        Self::BadRequest,
        Self::HeadTooLarge,
        Self::Dns,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectFailed,
        Self::TlsHandshake,
        Self::TlsCertificate,
        Self::ClosedBeforeAnswer,
        Self::Reset,
        Self::GarbageAnswer,
        Self::AnswerTimeout,
        Self::BodyTruncated,
        Self::Draining,
        Self::Full,
    ];

    /// Whose doing it is.
    pub const fn side(self) -> Side {
        match self {
            Self::ClientGone | Self::ClientTimeout | Self::BadRequest | Self::HeadTooLarge => {
                Side::Client
            }
            Self::Dns
            | Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectFailed
            | Self::TlsHandshake
            | Self::TlsCertificate
            | Self::ClosedBeforeAnswer
            | Self::Reset
            | Self::GarbageAnswer
            | Self::AnswerTimeout
            | Self::BodyTruncated => Side::Upstream,
            Self::Draining | Self::Full => Side::Us,
        }
    }

    /// The status that the client is answered with (RFC 9110 15). `None` when it cannot be
    /// answered: it is gone, or part of an answer went out already.
    ///
    /// A late answer is 408, not 504: that is nirn-proxy's contract.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::ClientGone | Self::BodyTruncated => None,
            Self::BadRequest => Some(400),
            Self::ClientTimeout | Self::AnswerTimeout => Some(408),
            Self::HeadTooLarge => Some(431),
            Self::Dns
            | Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectFailed
            | Self::TlsHandshake
            | Self::TlsCertificate
            | Self::ClosedBeforeAnswer
            | Self::Reset
            | Self::GarbageAnswer => Some(502),
            Self::Draining | Self::Full => Some(503),
        }
    }

    /// Whether the same request may be tried again whatever its method, because not one byte of it
    /// reached the upstream.
    ///
    /// `false` for [`Kind::ClosedBeforeAnswer`] and [`Kind::Reset`]: the upstream may have acted.
    /// Whether a method may be sent twice all the same (RFC 9110 9.2.2) is the caller's to know.
    pub const fn retry_safe(self) -> bool {
        match self {
            Self::Dns
            | Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectFailed
            | Self::TlsHandshake
            | Self::TlsCertificate
            | Self::Draining
            | Self::Full => true,
            // Nothing was sent for a broken request either, but it would break again.
            Self::ClientGone
            | Self::ClientTimeout
            | Self::BadRequest
            | Self::HeadTooLarge
            | Self::ClosedBeforeAnswer
            | Self::Reset
            | Self::GarbageAnswer
            | Self::AnswerTimeout
            | Self::BodyTruncated => false,
        }
    }

    /// The kind's name in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::ClientTimeout => "client_timeout",
            Self::BadRequest => "bad_request",
            Self::HeadTooLarge => "head_too_large",
            Self::Dns => "dns",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectFailed => "connect_failed",
            Self::TlsHandshake => "tls_handshake",
            Self::TlsCertificate => "tls_certificate",
            Self::ClosedBeforeAnswer => "closed_before_answer",
            Self::Reset => "reset",
            Self::GarbageAnswer => "garbage_answer",
            Self::AnswerTimeout => "answer_timeout",
            Self::BodyTruncated => "body_truncated",
            Self::Draining => "draining",
            Self::Full => "full",
        }
    }

    /// One clause for a log line or the body of an answer.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "the client hung up",
            Self::ClientTimeout => "the client did not finish its request in time",
            Self::BadRequest => "the request is malformed",
            Self::HeadTooLarge => "the request's head is too large",
            Self::Dns => "the upstream's name could not be resolved",
            Self::ConnectRefused => "the upstream refused the connection",
            Self::ConnectTimeout => "the upstream did not take the connection in time",
            Self::ConnectFailed => "the upstream could not be connected to",
            Self::TlsHandshake => "the TLS handshake with the upstream failed",
            Self::TlsCertificate => "the upstream's certificate is not valid",
            Self::ClosedBeforeAnswer => "the upstream closed the connection without an answer",
            Self::Reset => "the upstream reset the connection",
            Self::GarbageAnswer => "the upstream's answer is malformed",
            Self::AnswerTimeout => "the upstream did not answer in time",
            Self::BodyTruncated => "the upstream's answer broke off",
            Self::Draining => "the proxy is shutting down",
            Self::Full => "the proxy is at capacity",
        }
    }
}

/// What went wrong with one exchange, and what the operating system said about it.
#[derive(Debug)]
pub struct Error {
    /// What went wrong.
    pub kind: Kind,
    /// What the operating system or the TLS library said, if it was they who noticed.
    pub source: Option<io::Error>,
}

impl Error {
    /// An error that weir noticed by itself.
    pub const fn new(kind: Kind) -> Self {
        Self { kind, source: None }
    }

    /// An error of this kind that an IO error tells of.
    pub const fn with(kind: Kind, source: io::Error) -> Self {
        Self {
            kind,
            source: Some(source),
        }
    }

    /// An IO error of connecting to the upstream.
    pub fn connecting(source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::ConnectionRefused => Kind::ConnectRefused,
            io::ErrorKind::TimedOut => Kind::ConnectTimeout,
            _ => Kind::ConnectFailed,
        };
        Self::with(kind, source)
    }

    /// An IO error on an upstream connection before the first byte of the answer.
    pub fn exchanging(source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::WriteZero => Kind::ClosedBeforeAnswer,
            io::ErrorKind::TimedOut => Kind::AnswerTimeout,
            // What is no HTTP and no TLS record arrives as InvalidData.
            io::ErrorKind::InvalidData => Kind::GarbageAnswer,
            _ => Kind::Reset,
        };
        Self::with(kind, source)
    }

    /// The system's number of what went wrong, where the system said it.
    pub fn os_code(&self) -> Option<i32> {
        self.source.as_ref()?.raw_os_error()
    }

    /// Whose doing it is.
    pub const fn side(&self) -> Side {
        self.kind.side()
    }

    /// See [`Kind::status`].
    pub const fn status(&self) -> Option<u16> {
        self.kind.status()
    }

    /// See [`Kind::retry_safe`].
    pub const fn retry_safe(&self) -> bool {
        self.kind.retry_safe()
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self::new(kind)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        match &self.source {
            Some(source) => write!(f, ": {}", OneLine(source)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// Another's message, with line ends made blanks: an error is one line whoever wrote it.
struct OneLine<'a, E>(&'a E);

impl<E: fmt::Display> fmt::Display for OneLine<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        for (at, line) in text.lines().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            f.write_str(line.trim())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
