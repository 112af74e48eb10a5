//! TLS, towards the upstream and towards clients: sessions without sockets, bytes in, bytes out.
//!
//! [`Session`] is one session from its handshake to its end; rustls shakes hands, and after that the
//! records of TLS 1.3 are sealed and opened by us, where they lie (`records`). It costs a connection
//! its keys and no buffer. [`Credentials`] are what weir shows its clients; whom it believes as a
//! client itself is [`upstream::trust`](crate::upstream::trust), and of the nodes of its cluster [`NodeTrust`].

mod certificate;
pub mod credentials;
pub mod current;
mod end;
pub mod nodes;
pub mod pem;
mod records;
mod session;
pub mod x509;

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

pub use certificate::Certificate;
pub use credentials::Credentials;
pub use current::Current;
pub use end::End;
pub use nodes::NodeTrust;
pub use session::{ClientSession, Handshake, ServerSession, Session};

/// Whom somebody that is connected to must prove to be, and to whose satisfaction.
#[derive(Clone, Debug)]
pub struct Trust {
    /// The name, or the address, that its certificate must carry.
    pub name: ServerName<'static>,
    /// Who must have signed it, and what is shown in return.
    pub config: Arc<Current<ClientConfig>>,
}

impl Trust {
    /// A session that has said nothing yet.
    ///
    /// # Errors
    /// rustls refuses the configuration.
    pub fn session(&self) -> Result<ClientSession, rustls::Error> {
        ClientSession::connect(self.config.now(), self.name.clone())
    }
}
