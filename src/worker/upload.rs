//! Streaming a request's body: read what the client sends, send it on, never more than a buffer
//! ahead.

use std::rc::Rc;
use std::time::Duration;

use super::Worker;
use super::conn::Client;
use super::exchange::Attempt;
use crate::error::{Error, Kind};
use crate::http1::BodyTracker;
use crate::io::socket::Half;
use crate::upstream::connection::Sender;

/// How long an upstream that stopped taking the body is given to say why.
pub(super) const LAST_WORD: Duration = Duration::from_secs(1);

/// Room asked for before a read of a body: read in large pieces, so that each becomes few records.
const READ_ROOM: usize = 4096;

/// Sends the rest of the body.
///
/// Dropped when an answer comes early; the client's connection then ends after that answer, so the
/// bytes of a read that was under way are of no more use.
pub(super) async fn pump(
    worker: &Rc<Worker>,
    client: &mut Client,
    body: &mut BodyTracker,
    mut sender: Sender<'_>,
) -> Result<(), Attempt> {
    let config = &worker.process.config;
    while !body.done() {
        if client.inbuf.is_empty() && !read(worker, client).await {
            return Err(Attempt::Client);
        }
        let Ok(progress) = body.take(client.inbuf.as_slice()) else {
            worker.metrics().own.fail(Kind::BadRequest);
            return Err(Attempt::Client);
        };
        sender.queue(&client.inbuf.as_slice()[..progress.consumed])?;
        client.inbuf.consume(progress.consumed);
        let armed = worker
            .deadlines
            .arm_after(&sender, Half::Both, config.request_timeout);
        let flushed = sender.flush().await;
        if armed.expired() {
            return Err(Error::new(Kind::AnswerTimeout).into());
        }
        flushed.map_err(Error::exchanging)?;
    }
    Ok(())
}

/// Reads once more of the body; false if the client has gone or stalls, which is counted.
pub(super) async fn read(worker: &Worker, client: &mut Client) -> bool {
    let patience = worker.process.config.client_idle_timeout;
    let armed = worker
        .deadlines
        .arm_after(&client.stream, Half::Read, patience);
    let count = client.read(READ_ROOM).await;
    let too_slow = armed.expired();
    let more = matches!(count, Ok(1..));
    if !more {
        worker.count_lost_client(too_slow);
    }
    more
}
