//! The two ends that a session can be seen from.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::UnbufferedStatus;
use rustls::{CommonState, Error, ExtractedSecrets, InvalidMessage};

/// One end of a session before our records: rustls' connection, and what differs by end. Both have
/// the same methods there, and no trait.
pub trait End: Sized {
    /// What rustls keeps for this end.
    type Data;

    /// Takes in what came, and says what is next.
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    /// What is the same at both ends.
    fn common(&self) -> &CommonState;

    /// Hands over the secrets.
    ///
    /// # Errors
    /// The handshake is not done, or something is still to be sent.
    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error>;

    /// Keeps a ticket that came after the handshake.
    ///
    /// # Errors
    /// It is malformed, or none that this end is to be given.
    fn keep_ticket(kernel: &mut KernelConnection<Self::Data>, ticket: &[u8]) -> Result<(), Error>;
}

impl End for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error> {
        self.dangerous_into_kernel_connection()
    }

    fn keep_ticket(kernel: &mut KernelConnection<Self::Data>, ticket: &[u8]) -> Result<(), Error> {
        kernel.handle_new_session_ticket(ticket)
    }
}

impl End for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn common(&self) -> &CommonState {
        self
    }

    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error> {
        self.dangerous_into_kernel_connection()
    }

    fn keep_ticket(_: &mut KernelConnection<Self::Data>, _: &[u8]) -> Result<(), Error> {
        // Tickets are a server's to give (RFC 8446 4.6.1).
        Err(InvalidMessage::UnexpectedMessage("session ticket").into())
    }
}
