//! Streaming a request's body: read what the client sends, send it on, never more than a buffer
//! ahead.

use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use super::conn::Client;
use super::exchange::Attempt;
use super::pace::Pace;
use super::{Worker, elsewhere};
use crate::error::{Error, Kind};
use crate::http1::BodyTracker;
use crate::io::Turn;
use crate::io::socket::Half;
use crate::upstream::connection::Sender;

/// How long an upstream that stopped taking the body is given to say why.
pub(super) const LAST_WORD: Duration = Duration::from_secs(1);

/// Room asked for before a read of a body: read in large pieces, so that each becomes few records.
const READ_ROOM: usize = 4096;

/// Sends the rest of the body: to Discord, which is to take more of it within `REQUEST_TIMEOUT`, or to a
/// `node`, which takes none while it waits for a limit, and for which it is waited while the client is there.
///
/// Dropped when an answer comes early; the client's connection then ends after that answer, so the
/// bytes of a read that was under way are of no more use.
pub(super) async fn pump(
    worker: &Rc<Worker>,
    client: &mut Client,
    body: &mut BodyTracker,
    mut sender: Sender<'_>,
    node: bool,
) -> Result<(), Attempt> {
    let config = &worker.process.config;
    let mut pace = Pace::holding(config);
    let mut turn = Turn::default();
    while !body.done() {
        if client.inbuf.is_empty() && !read(worker, client, &mut pace).await {
            return Err(Attempt::Client);
        }
        let Ok(progress) = body.take(client.inbuf.as_slice()) else {
            worker.metrics().own.fail(Kind::BadRequest);
            return Err(Attempt::Client);
        };
        sender.queue(&client.inbuf.as_slice()[..progress.consumed])?;
        client.inbuf.consume(progress.consumed);
        let flushed = if node {
            elsewhere::flush(worker, client, &mut sender).await?
        } else {
            let armed = worker
                .deadlines
                .arm_after(&sender, Half::Both, config.request_timeout);
            let flushed = sender.flush().await;
            if armed.expired() {
                return Err(Error::new(Kind::AnswerTimeout).into());
            }
            flushed
        };
        flushed.map_err(Error::exchanging)?;
        turn.round().await;
    }
    Ok(())
}

/// Reads once more of the body; false if the client has gone or is too slow, which is counted.
pub(super) async fn read(worker: &Worker, client: &mut Client, pace: &mut Pace) -> bool {
    let socket = client.stream.as_raw_fd();
    let read = client.read(READ_ROOM);
    let (count, too_slow) = pace.wait(worker, socket, Half::Read, read).await;
    let Ok(count @ 1..) = count else {
        worker.count_lost_client(too_slow);
        return false;
    };
    pace.moved(count);
    true
}
