//! When there is no place for a client: it is told so.

use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpStream;

use super::conn::{self, Client};
use super::{Worker, reply};
use crate::http1::Reply;
use crate::io::descriptors::TURNED_AWAY_MAX;
use crate::io::guard::Contained;
use crate::io::socket::{Half, read_some};
use crate::metrics::Refusal;
use crate::places::Full;

/// How long a client that finds no place may take to ask, hear that there is none, and leave. Long
/// enough for a request that travels behind its connection from anywhere.
const PATIENCE: Duration = Duration::from_secs(1);

/// When the client should ask again: connections end all the time, and fleets are patient.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Room for what the client asks, of which nothing is looked at.
const READ_ROOM: usize = 1024;

/// Answers the first request with 503 and ends the connection. It is answered only once it was asked,
/// because client libraries take an answer to nothing for garbage. With [`TURNED_AWAY_MAX`] at it, the
/// connection is just closed.
pub(super) fn turn_away(worker: &Rc<Worker>, stream: TcpStream, full: Full) {
    let (refusal, message) = match full {
        Full::All => (
            Refusal::ConnectionsFull,
            "weir has as many connections as it may (MAX_CONNECTIONS)",
        ),
        Full::Client => (
            Refusal::ClientFull,
            "this client has as many connections as one may (MAX_CONNECTIONS_PER_CLIENT)",
        ),
    };
    worker.metrics().own.refuse(refusal);
    let from = stream.peer_addr().ok().map(|from| from.ip());
    worker.process.troubles.no_place(full, from);
    // Each of them holds the count once. Whom TLS is spoken with understands nothing before the
    // handshake.
    if Rc::strong_count(&worker.turned_away) > TURNED_AWAY_MAX || worker.process.tls.is_some() {
        return;
    }
    let counted = worker.turned_away.clone();
    let worker = worker.clone();
    monoio::spawn(Contained::new(async move {
        let mut client = Client::new(&worker, stream);
        tell(&worker, &mut client, message).await;
        drop(client);
        drop(counted);
    }));
}

async fn tell(worker: &Worker, client: &mut Client, message: &str) {
    let armed = worker
        .deadlines
        .arm_after(&client.stream, Half::Both, PATIENCE);
    let asked = read_some(&mut client.stream, &mut client.inbuf, READ_ROOM).await;
    if matches!(asked, Ok(1..)) {
        let reply = Reply::error(503, message)
            .retry_after(RETRY_AFTER)
            .keep_alive(false);
        // It may be gone.
        if reply::send(worker, client, &reply, false).await.is_ok() {
            conn::linger(worker, client).await;
        }
    }
    drop(armed);
}
