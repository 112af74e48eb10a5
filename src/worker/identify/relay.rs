//! A shard whose bot another node of the cluster owns: its queue is asked there.
//!
//! ```text
//! client ─▶ this node's queue port ─▶ GET /?shard=N, nirn-routed-to ─▶ the owner's queue port
//!        ◀─ the same answer        ◀─ the place in line lasts as long as this connection
//! ```
//! One connection for each shard that waits, closed at once when its client leaves, so that its place is
//! given up. If the owner fails, whoever owns the bot [without it](super::reach) is asked; if it owns it
//! no more, the same, at the end of the line. A relayed shard carries `nirn-routed-to` and is lined up where it arrives,
//! whatever that node thinks of the owner: there are no loops.
//!
//! **Careful.** Nobody knows what a node that died had let go: who lines up a shard in its stead holds the
//! bot's first back a turn. One that ends, or loses the bot to another, tells it
//! ([`Queues::take_over`](crate::identify::Queues::take_over)). An answer that was lost on its way counts at the owner as given.

use std::io::Write;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use super::conn::{self, To};
use super::reach::AGAIN_AFTER;
use super::{CAREFUL, Door, LOOK, Refusal, Verdict, Waiter, Waiting};
use crate::clock;
use crate::error::{Error, Kind};
use crate::http1::{Framing, Method, Parse, parse_response};
use crate::identify::{Ask, Reason, SPACING};
use crate::io::Buf;
use crate::io::socket::{Half, reset_at_close, shut};
use crate::tls::Trust;
use crate::upstream::connection::Connection;
use crate::upstream::dial;
use crate::worker::Worker;
use crate::worker::conn::Client;
use crate::worker::elsewhere::is_theirs;
use crate::worker::peers::{NODE_CONNECT_TIMEOUT, Peer, Peers};
use crate::worker::wait::{First, There, first};

/// Nodes that may fail one shard before it is lined up here: two that are gone at once are rare.
const FAILED_MAX: u32 = 3;

/// The longest answer that is read of another queue; they have some 300 bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// A request that another node may have to answer.
pub(super) struct Asked {
    pub(super) ask: Ask,
    pub(super) token: Option<Rc<[u8]>>,
    /// What the other node is told of whose shard it is. Secret.
    pub(super) authorization: Option<Rc<[u8]>>,
}

/// What another queue answered.
#[derive(Clone, Debug)]
pub(in crate::worker) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Box<[u8]>,
}

/// Waits for the verdict, here or at the node that owns the bot; `None` when the client leaves.
pub(super) async fn turn(
    worker: &Rc<Worker>,
    client: &Client,
    to: To,
    asked: &Asked,
    place: &mut Option<Waiting>,
) -> Option<Verdict> {
    let mut there = There::since(clock::now());
    loop {
        // Boxed, so that a shard that waits here does not hold room for it.
        let careful = match Box::pin(away(worker, client, to, asked, &mut there)).await? {
            Away::Verdict(verdict) => return Some(verdict),
            Away::Here { careful } => careful,
        };
        let ask = Ask {
            careful,
            max_wait: left(asked, to),
            ..asked.ask
        };
        match Waiting::line_up(worker, ask, asked.token.clone(), false) {
            Ok(waiting) => *place = Some(waiting),
            Err(verdict) => return Some(verdict),
        }
        match conn::turn(client, to, place).await? {
            Verdict::Moved => *place = None,
            verdict => return Some(verdict),
        }
    }
}

/// How long the client still accepts to wait.
fn left(asked: &Asked, to: To) -> Option<Duration> {
    let waited = clock::now().saturating_duration_since(to.since);
    asked.ask.max_wait.map(|most| most.saturating_sub(waited))
}

/// What came of asking elsewhere.
enum Away {
    Verdict(Verdict),
    /// The bot is this node's.
    Here {
        careful: bool,
    },
}

/// Asks the node that owns the bot, or whoever owns it after that one; `None` when the client leaves.
async fn away(
    worker: &Rc<Worker>,
    client: &Client,
    to: To,
    asked: &Asked,
    there: &mut There,
) -> Option<Away> {
    let (mut failed, mut careful, mut broken) = (0, false, None);
    while let Some((peers, door, port)) = door(worker)
        && failed < FAILED_MAX
        && let now = clock::now()
        && let Some(node) = door.reach.owner(now, peers.ownership(), asked.ask.bot)
    {
        let peer = peers.peer(node);
        door.send_on(peers, now);
        worker.alarm.ring_at(now + LOOK);
        let place = match Place::take(worker, door, asked.ask.bot) {
            Ok(place) => place,
            Err(verdict) => return Some(Away::Verdict(verdict)),
        };
        worker.metrics().own.relay.identifies += 1;
        let care = door.reach.needs_care(&node);
        let question = question(peers, &peer, asked, left(asked, to), care);
        let addr = SocketAddr::new(peer.node.addr.ip(), port);
        let trust = peers.trust(&peer.node);
        let work = put(worker, addr, trust, question, || {
            door.reach.asked(clock::now(), &node);
        });
        let work = first(work, place.verdict());
        let Some(came) = there.meanwhile(worker, client, pin!(work)).await else {
            door.reach.left(&node);
            return None;
        };
        let error = match came {
            First::Left(Ok(answer)) => {
                door.reach.answered(clock::now(), &node);
                return Some(Away::Verdict(Verdict::Told(Box::new(answer))));
            }
            First::Left(Err(error)) => error,
            First::Right(Verdict::Moved) => {
                door.reach.left(&node);
                continue;
            }
            First::Right(verdict) => return Some(Away::Verdict(verdict)),
        };
        worker.metrics().own.relay.failed += 1;
        door.reach.left(&node);
        peers.tell_of(&peer.node, &error);
        tracing::debug!(node = %peer.node, %error, "a shard could not be asked for at its node");
        if !is_theirs(&error) {
            return Some(Away::Verdict(full()));
        }
        failed += 1;
        let ended = clock::now();
        // A connection that broke tells of itself alone, unless the next one does at once, too.
        let is_break = matches!(error.kind, Kind::Reset | Kind::ClosedBeforeAnswer);
        let lasted = ended.saturating_duration_since(now) >= AGAIN_AFTER;
        if is_break && (lasted || broken != Some(node)) {
            broken = Some(node);
            failed -= u32::from(lasted);
            continue;
        }
        careful |= door.reach.failed(ended, &node);
    }
    // Whom this node saw go has let shards go that nobody tells of; once is enough.
    Some(Away::Here { careful })
}

/// What asking elsewhere takes; `None` if nobody is asked.
fn door(worker: &Worker) -> Option<(&Peers, &Door, u16)> {
    let (peers, door) = (worker.peers.as_ref()?, worker.identify.as_ref()?);
    Some((peers, door, door.relay_port?))
}

/// Whether other nodes are asked.
pub(super) fn is_on(worker: &Worker) -> bool {
    door(worker).is_some()
}

/// There is no room for one more.
fn full() -> Verdict {
    Verdict::Refused(Box::new(Refusal {
        reason: Reason::WaitingFull,
        retry_after: SPACING,
    }))
}

/// A shard that waits at another node, among those who wait here; dropping it ends that.
struct Place<'a> {
    door: &'a Door,
    at: usize,
}

impl<'a> Place<'a> {
    fn take(worker: &Worker, door: &'a Door, bot: u64) -> Result<Self, Verdict> {
        if door.closed.get() {
            return Err(Verdict::Draining);
        }
        let mut waiters = door.waiters.borrow_mut();
        if waiters.len() >= worker.process.config.gateway_queue_max_waiting {
            return Err(full());
        }
        let at = waiters.insert(Waiter::new(bot, false));
        Ok(Self { door, at })
    }

    /// Waits until it has to be asked for elsewhere, or weir ends.
    async fn verdict(&self) -> Verdict {
        std::future::poll_fn(|cx| self.door.poll_verdict(self.at, cx)).await
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.door.waiters.borrow_mut().try_remove(self.at);
    }
}

/// The request to `peer`.
fn question(
    peers: &Peers,
    peer: &Peer,
    asked: &Asked,
    max_wait: Option<Duration>,
    careful: bool,
) -> Buf {
    let mut buf = Buf::default();
    let out = buf.writable();
    // Writing to memory does not fail.
    let _ = write!(out, "GET /?shard={}", asked.ask.shard);
    if let Some(most) = max_wait {
        let _ = write!(out, "&max_wait={:.3}", most.as_secs_f64());
    }
    if careful {
        out.extend_from_slice(CAREFUL.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\nHost: weir\r\nConnection: close\r\nnirn-routed-to: ");
    out.extend_from_slice(&peer.name);
    out.extend_from_slice(b"\r\n");
    peers.pass(peer, out);
    if let Some(authorization) = &asked.authorization {
        out.extend_from_slice(b"Authorization: ");
        out.extend_from_slice(authorization);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    buf
}

/// A connection to another queue; dropping it gives the place there up at once.
struct Link(Box<Connection>);

impl Drop for Link {
    fn drop(&mut self) {
        reset_at_close(&*self.0);
        // What waits for it to be readable would keep it open.
        shut(&*self.0, Half::Both);
    }
}

/// Puts the question, says so, and waits for the answer as long as that takes.
async fn put(
    worker: &Rc<Worker>,
    addr: SocketAddr,
    trust: Option<Trust>,
    question: Buf,
    asked: impl FnOnce(),
) -> Result<Answer, Error> {
    let until = clock::now() + NODE_CONNECT_TIMEOUT;
    let connected = dial::connect(addr, None, NODE_CONNECT_TIMEOUT, &worker.deadlines).await?;
    conn::keep_alive(&connected);
    // Boxed: it is over soon, and its state would be part of what a shard that waits holds.
    let opened = Connection::open(connected, trust.as_ref(), until, &worker.deadlines);
    let (connection, _) = Box::pin(opened).await?;
    let mut link = Link(connection);
    let (mut sender, _) = link.0.split();
    sender.queue(question.as_slice())?;
    let written = sender.flush().await;
    written.map_err(|_| Error::new(Kind::Reset))?;
    drop(question);
    asked();
    loop {
        // Its buffers are given back: shards wait for hours.
        link.0.rest();
        let (_, mut receiver) = link.0.split();
        let ready = receiver.ready().await;
        ready.map_err(|_| Error::new(Kind::Reset))?;
        if receiver.receive().await? == 0 {
            return Err(Error::new(Kind::ClosedBeforeAnswer));
        }
        if let Some(answer) = read(receiver.plain().as_slice())? {
            return Ok(answer);
        }
    }
}

/// The answer at the start of `bytes`, if it is whole.
fn read(bytes: &[u8]) -> Result<Option<Answer>, Error> {
    let head = match parse_response(bytes, Method::Get) {
        Parse::Complete(head) => head,
        Parse::Partial => return Ok(None),
        Parse::Invalid(_) => return Err(Error::new(Kind::GarbageAnswer)),
    };
    // Whatever else there is at that port is no queue; or it will not have this node as one.
    let Framing::Length(len @ 1..) = head.framing else {
        return Err(Error::new(Kind::GarbageAnswer));
    };
    if !matches!(head.status, 200 | 429 | 503) {
        return Err(Error::new(Kind::GarbageAnswer));
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > ANSWER_BYTES_MAX - head.len.min(ANSWER_BYTES_MAX) {
        return Err(Error::new(Kind::GarbageAnswer));
    }
    let Some(body) = bytes.get(head.len..head.len + len) else {
        return Ok(None);
    };
    let retry_after = head
        .headers()
        .find(|(name, _)| name.eq_ignore_ascii_case(b"retry-after"))
        .and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
    Ok(Some(Answer {
        status: head.status,
        retry_after: retry_after.map(Duration::from_secs),
        body: body.into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_whole_and_only_if_a_queue_gave_it() {
        let whole = b"HTTP/1.1 429 x\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\n{}";
        for len in 0..whole.len() {
            assert!(read(&whole[..len]).unwrap().is_none(), "{len}");
        }
        let answer = read(whole).unwrap().unwrap();
        assert_eq!((answer.status, &*answer.body), (429, &b"{}"[..]));
        assert_eq!(answer.retry_after, Some(Duration::from_secs(7)));
        for other in [
            &b"HTTP/1.1 404 x\r\nContent-Length: 2\r\n\r\n{}"[..],
            b"HTTP/1.1 102 x\r\nweir-relay: waits\r\n\r\n",
            b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 x\r\nContent-Length: 5000\r\n\r\n",
            b"SSH-2.0-x\r\n\r\n",
        ] {
            assert!(read(other).is_err(), "{:?}", other.escape_ascii());
        }
    }
}
