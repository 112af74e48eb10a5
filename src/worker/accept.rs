//! Taking connections in: one listener a worker, `SO_REUSEPORT` spreading them; or sockets that were
//! handed over, from which all workers accept.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use monoio::io::CancelHandle;
use monoio::net::{TcpListener, TcpStream};
use pin_project_lite::pin_project;
use socket2::SockRef;

use super::conn::{self, Client};
use super::{Worker, full, identify, secure};
use crate::clock;
use crate::io::guard::Contained;
use crate::io::socket::borrow;
use crate::io::turn::{self, Turn};
use crate::metrics::Refusal;
use crate::places::Place;

/// Pause after the process ran out of descriptors or memory, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Which port a client came in by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// The proxy's.
    Proxy,
    /// The identify queue's.
    Identify,
}

/// Accepts until cancelled, serving each connection in a task of its own. A pending
/// accept is cancelled and awaited, never dropped: it may have taken a client in.
pub(super) async fn run(
    worker: Rc<Worker>,
    listener: TcpListener,
    port: Port,
    cancel: CancelHandle,
) {
    let mut turn = Turn::default();
    loop {
        match listener.cancelable_accept(cancel.clone()).await {
            Ok((stream, from)) => admit(&worker, stream, port, from.ip()),
            Err(_) if worker.process.is_draining() => break,
            // A client that left before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                let troubles = &worker.process.troubles;
                if let Some(unsaid) = troubles.accepting.happened(clock::now()) {
                    tracing::warn!(
                        %error,
                        unsaid,
                        "cannot accept connections; clients wait until it can be done again. If \
                         descriptors have run out, LimitNOFILE or ulimit -n allows more"
                    );
                }
                if worker.pause(PAUSE).await {
                    break;
                }
            }
        }
        turn.round().await;
        if worker.process.is_draining() {
            break;
        }
    }
    if port == Port::Identify || !worker.process.inherited {
        take_queued(&worker, &listener, port);
    }
}

/// Closing a listener resets what is queued on it, so that is taken in first.
fn take_queued(worker: &Rc<Worker>, listener: &TcpListener, port: Port) {
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
            admit(worker, stream, port, from.ip());
        }
    }
}

fn admit(worker: &Rc<Worker>, stream: TcpStream, port: Port, from: IpAddr) {
    let is_node = worker
        .peers
        .as_ref()
        .is_some_and(|peers| peers.is_member(from));
    if !worker.process.config.allow_from.allows(from) && !is_node {
        worker.metrics().own.refuse(Refusal::Address);
        if let Some(unsaid) = worker.process.troubles.strangers.happened(clock::now()) {
            tracing::warn!(%from, unsaid, "refused a connection: its address is not in ALLOW_FROM");
        }
        return;
    }
    let places = &worker.process.places;
    let place = if is_node {
        places.take_shared()
    } else {
        places.take(from)
    };
    let place = match place {
        Ok(place) => place,
        Err(full) => return full::turn_away(worker, stream, full),
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
    if port == Port::Identify {
        identify::keep_alive(&stream);
    }
    let client = Client::new(worker, stream);
    let tls = worker.process.tls.as_ref().map(|tls| tls.current());
    match (tls, port) {
        (None, Port::Proxy) => spawn(worker, place, conn::serve(worker.clone(), client)),
        (None, Port::Identify) => spawn(worker, place, identify::serve(worker.clone(), client)),
        (Some(config), Port::Proxy) => {
            let served = secure::serve(worker.clone(), client, config, conn::serve);
            spawn(worker, place, served);
        }
        (Some(config), Port::Identify) => {
            let served = secure::serve(worker.clone(), client, config, identify::serve);
            spawn(worker, place, served);
        }
    }
}

fn spawn(worker: &Rc<Worker>, place: Place, served: impl Future<Output = ()> + 'static) {
    monoio::spawn(Served {
        served: Contained::new(served),
        worker: worker.clone(),
        _place: place,
    });
}

pin_project! {
    /// A connection's task: serves it, and settles the accounts when it has ended.
    struct Served<F> {
        #[pin]
        served: Contained<F>,
        worker: Rc<Worker>,
        _place: Place,
    }
}

impl<F: Future<Output = ()>> Future for Served<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        turn::taken_up();
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
