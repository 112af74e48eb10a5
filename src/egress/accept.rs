//! Taking clients of the forward proxy in.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use monoio::io::CancelHandle;
use monoio::net::{TcpListener, TcpStream};
use pin_project_lite::pin_project;

use super::client::{self, Client};
use super::tunnel::{self, Tunnel};
use super::worker::Worker;
use crate::clock;
use crate::io::Turn;
use crate::io::guard::Contained;
use crate::io::turn;
use crate::metrics::ForwardRefusal;
use crate::places::Place;

/// Pause after the process ran out of descriptors or memory, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until cancelled, serving each connection in a task of its own. A pending accept is
/// cancelled and awaited, never dropped: it may have taken a client in.
pub(super) async fn run(worker: Rc<Worker>, listener: TcpListener, cancel: CancelHandle) {
    let mut turn = Turn::default();
    loop {
        match listener.cancelable_accept(cancel.clone()).await {
            Ok((stream, from)) => admit(&worker, stream, from),
            Err(_) if worker.hub.is_draining() => return,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if let Some(unsaid) = worker.troubles.happened(clock::now()) {
                    tracing::warn!(%error, unsaid, "the forward proxy cannot accept connections");
                }
                monoio::time::sleep(PAUSE).await;
            }
        }
        turn.round().await;
        if worker.hub.is_draining() {
            return;
        }
    }
}

fn admit(worker: &Rc<Worker>, stream: TcpStream, from: SocketAddr) {
    if !worker.hub.allow_from.allows(from.ip()) {
        worker.hub.refuse(ForwardRefusal::Address);
        if let Some(unsaid) = worker.strangers.happened(clock::now()) {
            let from = from.ip();
            tracing::warn!(
                %from,
                unsaid,
                "refused a connection to the forward proxy: its address is not in ALLOW_FROM"
            );
        }
        return;
    }
    let Ok(place) = worker.hub.places.take(from.ip()) else {
        // Its client sees that at once, and tries another time.
        worker.hub.refuse(ForwardRefusal::ConnectionsFull);
        if let Some(unsaid) = worker.full.happened(clock::now()) {
            tracing::warn!(
                unsaid,
                "refused a connection: the forward proxy has FORWARD_MAX_CLIENTS already"
            );
        }
        return;
    };
    if stream.set_nodelay(true).is_err() {
        // The client is gone already.
        return;
    }
    let client = Client::new(worker, stream, from);
    spawn(place, client::serve(worker.clone(), client));
}

fn spawn<F>(place: Place, served: F)
where
    F: Future<Output = Option<Box<Tunnel>>> + 'static,
{
    monoio::spawn(Served {
        served: Contained::new(served),
        place: Some(place),
    });
}

/// A tunnel's task. Boxed, since a task that began another of its own kind would have no end as a type.
type Tunnelled = Pin<Box<dyn Future<Output = Option<Box<Tunnel>>>>>;

pin_project! {
    /// A connection's task. A panic ends the connection, and what it held goes back.
    struct Served<F> {
        #[pin]
        served: Contained<F>,
        place: Option<Place>,
    }
}

impl<F: Future<Output = Option<Box<Tunnel>>>> Future for Served<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        turn::taken_up();
        let this = self.project();
        match ready!(this.served.poll(cx)) {
            // In a task of its own, which is small: tunnels are many and last.
            Ok(Some(tunnel)) => {
                if let Some(place) = this.place.take() {
                    let tunnelled: Tunnelled = Box::pin(async move {
                        tunnel::run(tunnel).await;
                        None
                    });
                    spawn(place, tunnelled);
                }
            }
            Ok(None) => {}
            Err(_) => {
                tracing::error!("a forwarded connection ended in a panic; others are not touched");
            }
        }
        Poll::Ready(())
    }
}
