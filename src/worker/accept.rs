//! Taking connections in: one listener a worker, `SO_REUSEPORT` spreading them.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use monoio::io::CancelHandle;
use monoio::net::{TcpListener, TcpStream};
use pin_project_lite::pin_project;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Worker;
use super::conn::{self, Client};
use super::secure;
use crate::clock;
use crate::http1::Reply;
use crate::io::guard::Contained;
use crate::io::socket::borrow;
use crate::metrics::Refusal;
use crate::process::Admitted;

/// Connections that the kernel may hold for a worker that is busy: a fleet's reconnect after a
/// restart comes at once, and `net.core.somaxconn` (4096 by default) caps it anyway.
const BACKLOG: i32 = 4096;

/// Pause after the process ran out of descriptors or memory, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Binds one listener for each worker to the same address; port 0 is chosen by the first.
///
/// The first bind goes without `SO_REUSEPORT`, so that a port that another process listens on is
/// found out: with it, the kernel would let both share the port and split the clients between
/// them.
///
/// # Errors
/// The address is in use or not ours.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let first = open(address)?;
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    first.listen(BACKLOG)?;
    let first: std::net::TcpListener = first.into();
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        let next = open(address)?;
        next.set_reuse_port(true)?;
        next.bind(&address.into())?;
        next.listen(BACKLOG)?;
        listeners.push(next.into());
    }
    Ok(listeners)
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Without it, connections in TIME_WAIT of a process just ended would hold the port.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Accepts until cancelled, serving each connection in a task of its own. A pending
/// accept is cancelled and awaited, never dropped: it may have taken a client in.
pub(super) async fn run(worker: Rc<Worker>, listener: TcpListener, cancel: CancelHandle) {
    loop {
        match listener.cancelable_accept(cancel.clone()).await {
            Ok((stream, from)) => admit(&worker, stream, from.ip()),
            Err(_) if worker.process.is_draining() => break,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                if worker.pause(PAUSE).await {
                    break;
                }
            }
        }
        if worker.process.is_draining() {
            break;
        }
    }
    if !worker.process.inherited {
        take_queued(&worker, &listener);
    }
}

/// Closing a listener resets what is queued on it, so that is taken in first.
fn take_queued(worker: &Rc<Worker>, listener: &TcpListener) {
    let borrowed = borrow(listener);
    let socket = SockRef::from(&borrowed);
    if socket.set_nonblocking(true).is_err() {
        return;
    }
    while let Ok((queued, from)) = socket.accept() {
        let Some(from) = from.as_socket() else {
            continue;
        };
        let legacy = monoio::utils::is_legacy();
        let stream = queued
            .set_nonblocking(legacy)
            .and_then(|()| TcpStream::from_std(queued.into()));
        if let Ok(stream) = stream {
            admit(worker, stream, from.ip());
        }
    }
}

fn admit(worker: &Rc<Worker>, stream: TcpStream, from: IpAddr) {
    if !worker.process.config.allow_from.allows(from) {
        worker.metrics().own.refuse(Refusal::Address);
        if let Some(unsaid) = worker.strangers.happened(clock::now()) {
            tracing::warn!(%from, unsaid, "refused a connection: its address is not in ALLOW_FROM");
        }
        return;
    }
    let Some(admitted) = worker.process.admit() else {
        worker.metrics().own.refuse(Refusal::ConnectionsFull);
        // Whom TLS is spoken with understands nothing before the handshake.
        if worker.process.tls.is_none() {
            refuse(&stream);
        }
        return;
    };
    if stream.set_nodelay(true).is_err() {
        // The client is gone already.
        return;
    }
    {
        let mut metrics = worker.metrics();
        metrics.own.clients += 1;
        metrics.own.clients_accepted += 1;
    }
    let client = Client::new(worker, stream);
    match &worker.process.tls {
        None => spawn(worker, admitted, conn::serve(worker.clone(), client)),
        Some(credentials) => {
            let served = secure::serve(worker.clone(), client, credentials.current());
            spawn(worker, admitted, served);
        }
    }
}

fn spawn(worker: &Rc<Worker>, admitted: Admitted, served: impl Future<Output = ()> + 'static) {
    monoio::spawn(Served {
        served: Contained::new(served),
        worker: worker.clone(),
        _admitted: admitted,
    });
}

pin_project! {
    /// A connection's task: serves it, and settles the accounts when it has ended.
    struct Served<F> {
        #[pin]
        served: Contained<F>,
        worker: Rc<Worker>,
        _admitted: Admitted,
    }
}

impl<F: Future<Output = ()>> Future for Served<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let served = ready!(this.served.poll(cx));
        let mut metrics = this.worker.metrics();
        metrics.own.clients -= 1;
        if served.is_err() {
            metrics.requests.record_error();
            drop(metrics);
            tracing::error!("a connection ended in a panic; others are not touched");
        }
        Poll::Ready(())
    }
}

/// Tells a client beyond the connection cap so, as far as that goes without waiting.
fn refuse(stream: &TcpStream) {
    let mut reply = Vec::new();
    Reply::error(503, "weir has reached MAX_CONNECTIONS").encode(false, &mut reply);
    let borrowed = borrow(stream);
    let _ =
        SockRef::from(&borrowed).send_with_flags(&reply, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
}
