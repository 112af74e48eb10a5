//! TLS, towards the upstream and towards clients: sessions without sockets, bytes in, bytes out.
//!
//! [`Session`] is one session from its handshake to its end; rustls shakes hands, and after that the
//! records of TLS 1.3 are sealed and opened by us, where they lie (`records`). It costs a connection
//! its keys and no buffer. [`Credentials`] are what weir shows its clients; whom it believes as a
//! client itself is [`upstream::trust`](crate::upstream::trust).

mod certificate;
pub mod credentials;
mod end;
pub mod pem;
mod records;
mod session;
pub mod x509;

pub use certificate::Certificate;
pub use credentials::Credentials;
pub use end::End;
pub use session::{ClientSession, Handshake, ServerSession, Session};
