//! Accepting at the metrics port.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::connection;
use super::gate::Gate;
use super::seats::Seats;
use crate::clock;
use crate::error::StartError;
use crate::io::Seldom;
use crate::metrics::Refusal;
use crate::process::Process;

/// The metrics port's listener; it ends when dropped.
pub struct AdminServer {
    addr: SocketAddr,
    /// Closing it ends the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Serves the port that [`bind`](super::bind) has bound, or that was handed over: then others may
    /// accept from it as well, so that a readiness may come to nothing.
    ///
    /// # Errors
    /// No descriptor is to be had, or no thread.
    pub fn start(listener: TcpListener, process: &Arc<Process>) -> Result<Self, StartError> {
        let addr = listener.local_addr().map_err(|source| StartError::System {
            what: "name the metrics port",
            source,
        })?;
        let set_up = |source| StartError::System {
            what: "set up the metrics port",
            source,
        };
        listener.set_nonblocking(true).map_err(set_up)?;
        let (stop, stopped) = UnixStream::pair().map_err(set_up)?;
        let thread = thread::Builder::new()
            .name("weir-admin".to_owned())
            .spawn({
                let process = process.clone();
                move || accept(&listener, &process, &stopped)
            })
            .map_err(StartError::Thread)?;
        Ok(Self {
            addr,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until a client knocks; `false` once the server is to end.
fn knocked(listener: &TcpListener, stopped: &UnixStream) -> bool {
    let of = |fd: RawFd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polled = [of(listener.as_raw_fd()), of(stopped.as_raw_fd())];
    // SAFETY: the pointer and the length name `polled`, which outlives the call.
    let count = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
    count < 0 || polled[1].revents == 0
}

fn accept(listener: &TcpListener, process: &Arc<Process>, stopped: &UnixStream) {
    let seats = Seats::new();
    let strangers = Seldom::default();
    let gate = Arc::new(Gate::default());
    while knocked(listener, stopped) {
        let (stream, from) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => {
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if !let_in(from.ip(), process, &strangers) {
            continue;
        }
        let Some(seat) = seats.take(stream, clock::now()) else {
            continue;
        };
        let (process, gate) = (process.clone(), gate.clone());
        let serve = move || {
            if let Err(error) = connection::serve(&seat, from.ip(), &process, &gate) {
                tracing::debug!(%error, "a connection to the metrics port failed");
            }
        };
        if let Err(error) = thread::Builder::new()
            .name("weir-scrape".to_owned())
            .spawn(serve)
        {
            tracing::warn!(%error, "no thread for a connection to the metrics port");
        }
    }
}

/// Whether a connection's address is one of `ALLOW_FROM`.
fn let_in(from: IpAddr, process: &Process, strangers: &Seldom) -> bool {
    let allowed = process.config.allow_from.allows(from);
    if !allowed {
        // Counted where all is counted, although no worker did it.
        process.metrics[0].lock().own.refuse(Refusal::Address);
        if let Some(unsaid) = strangers.happened(clock::now()) {
            tracing::warn!(
                %from,
                unsaid,
                "refused a connection to the metrics port: its address is not in ALLOW_FROM"
            );
        }
    }
    allowed
}
