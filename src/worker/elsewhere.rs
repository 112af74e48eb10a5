//! A request whose identity another node of the cluster owns: it is relayed there, and taken elsewhere
//! if that node fails.
//!
//! ```text
//! client ═▶ this worker ═▶ owner: permit, exchange with Discord ═▶ back the same way, byte for byte
//!              │ fails          "waits" ┄┄▶ "goes"
//!              ▼
//!    the next owner, or here, if Discord cannot have got it; else 429, retry after 1 s, as nirn-proxy
//! ```
//!
//! **Sent once.** The node that fails cannot be asked whether it had sent the request on. So for one that
//! may not be sent twice it says beforehand: an interim answer ([`NOTE`]) when the request begins to wait
//! for a limit, and another, written before the first byte goes to Discord, when it no longer does. Who
//! heard the first alone, and then the end of the stream, knows that Discord got nothing: the kernel
//! delivers what a dead process had written before it ends its streams. Of a request that did not wait,
//! and of a node that merely fell silent, nothing is known, and only what is safe goes again. Two small
//! writes for a request that has to wait anyway, none for others.
//!
//! **No loops.** A relayed request carries a line of `nirn-routed-to` for each time that it was relayed. Who
//! gets it and knows another owner relays it on, until there are [as many as may be](crate::cluster::owner::RELAYS_MAX); then it is
//! handled where it arrives, whatever that node thinks of the owner. One that cannot show that it is from a node of this cluster, and claims to
//! be, is neither handled nor relayed.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use super::Worker;
use super::conn::{Client, Next};
use super::exchange::{Attempt, Exchange, Failure, Way};
use super::peers::{NODE_SILENCE_MAX, Origin, Peer};
use super::proxy::{self, Outcome};
use super::relay::{self, Head, Heard};
use super::request::Request;
use super::wait::{self, There};
use crate::clock::{self, Instant};
use crate::error::{Error, Kind};
use crate::http1::{Hop, Reply, Scope};
use crate::io::Buf;
use crate::io::socket::{Half, bear_silence, end_when_silent, reset_at_close, shut};
use crate::upstream::Lease;
use crate::upstream::connection::{Receiver, Sender};

/// The header of an interim answer that says what becomes of a relayed request, for the node that
/// relayed it alone.
pub(super) const NOTE: &[u8; 10] = b"weir-relay";
/// What a node says of a request that was relayed to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Word {
    /// Nothing, or that it goes: Discord may have got it.
    #[default]
    Nothing,
    /// It waits: Discord has not got it.
    Waits,
    /// It waited, and its identity is another node's now: Discord has not got it, nor will from there.
    Moved,
}

impl Word {
    /// The value of a [`NOTE`].
    pub(super) fn of(note: &[u8]) -> Self {
        match note {
            b"waits" => Self::Waits,
            b"moved" => Self::Moved,
            _ => Self::Nothing,
        }
    }
}

/// Interim answers that say that Discord has not got the request, that it may from now on, and that it
/// will not.
pub(super) const WAITS: &[u8] = b"HTTP/1.1 102 Processing\r\nweir-relay: waits\r\n\r\n";
const GOES: &[u8] = b"HTTP/1.1 102 Processing\r\nweir-relay: goes\r\n\r\n";
const MOVED: &[u8] = b"HTTP/1.1 102 Processing\r\nweir-relay: moved\r\n\r\n";

/// How long it is waited for the word that a node no longer owns what it sent back: nodes hear of a
/// change within some milliseconds of each other.
const UNTIL_IT_IS_KNOWN: Duration = Duration::from_millis(25);

/// How often a request may be sent to a node: to two that are gone, then to one that lives, over a
/// connection of its own should the pooled one have ended.
const ATTEMPTS_MAX: u32 = 4;

/// Connections to a node that break under one request before the node counts as gone: the first may be
/// one that was pooled, the second one that was opened as the node ended.
const BROKEN_MAX: u32 = 2;

/// What a client is told to wait whose request was lost with a node, as nirn-proxy does.
const LOST_RETRY_AFTER: Duration = Duration::from_secs(1);

/// And what it is told; clients read the status and the wait, people this.
const LOST: &str = "You are being rate limited: the node that had this request is gone, and Discord may have got it.";

/// Has `peer` answer the request, or whoever owns its identity after `peer` failed.
pub(super) async fn answer(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    flight: Buf,
    peer: Rc<Peer>,
) -> (Outcome, Next) {
    let began = Exchange::begin(worker, client, request, flight, &mut Way::Node(&peer)).await;
    match began {
        Ok(exchange) => by(worker, client, request, exchange, peer).await,
        Err(failure) => proxy::no_answer(worker, client, request, failure, None).await,
    }
}

/// Has `peer` answer a request that waited here until its identity became that node's.
pub(super) async fn moved(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    mut exchange: Exchange<'_>,
    peer: Rc<Peer>,
) -> (Outcome, Next) {
    worker.metrics().own.relay.taken_over += 1;
    readdress(&mut exchange, request, &peer);
    by(worker, client, request, exchange, peer).await
}

async fn by(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    mut exchange: Exchange<'_>,
    peer: Rc<Peer>,
) -> (Outcome, Next) {
    let identity = request.ask.key.identity;
    if let Some(peers) = worker.peers.as_ref().filter(|p| p.is_untold(identity)) {
        Box::pin(peers.told(identity)).await;
    }
    let (mut peer, mut broken) = (peer, 0);
    // Here and not within what is moved about: it is the largest part of a request's state.
    let mut head = None;
    for _ in 0..ATTEMPTS_MAX {
        let tried = attempt(
            worker,
            client,
            request,
            &mut exchange,
            &peer,
            broken > 0,
            &mut head,
        )
        .await;
        let gone = match tried {
            Tried::Done(done) => return done,
            Tried::Lost => return lost(worker, client, request, exchange.left()).await,
            Tried::Broken => {
                broken += 1;
                broken >= BROKEN_MAX
            }
            Tried::Gone => true,
            Tried::Moved => {
                worker.deadlines.pause(UNTIL_IT_IS_KNOWN).await;
                false
            }
        };
        if gone && let Some(peers) = &worker.peers {
            peers.failed(&peer);
        }
        let owner = worker
            .peers
            .as_ref()
            .and_then(|peers| peers.owner(identity));
        let Some(owner) = owner else {
            worker.metrics().own.relay.taken_over += 1;
            request.tale.again();
            if let Some(peers) = &worker.peers {
                // The control thread is as careful, but comes to it later than this request.
                peers.serves_for_another(clock::now(), &request.ask.key);
            }
            exchange.readdress(|head, out| worker.encode(head, out));
            return Box::pin(proxy::here(worker, client, request, exchange)).await;
        };
        if owner.node != peer.node {
            worker.metrics().own.relay.taken_over += 1;
            request.tale.again();
            readdress(&mut exchange, request, &owner);
            broken = 0;
        }
        peer = owner;
    }
    lost(worker, client, request, exchange.left()).await
}

/// The request goes to `peer`, wherever it went before.
fn readdress(exchange: &mut Exchange<'_>, request: &Request, peer: &Peer) {
    let id = request.tale.made_id();
    let hop = Hop {
        node: &peer.name,
        before: request.relays,
        id: id.as_deref(),
    };
    exchange.readdress(|head, out| head.encode_relayed(&hop, out));
}

/// What came of sending a request to a node.
enum Tried {
    Done((Outcome, Next)),
    /// The connection broke; the request may go again.
    Broken,
    /// The node cannot be reached, or has sent the request away; it may go elsewhere.
    Gone,
    /// It waited there, and is another node's now.
    Moved,
    /// The request may not go again.
    Lost,
}

async fn attempt(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    exchange: &mut Exchange<'_>,
    peer: &Rc<Peer>,
    fresh: bool,
    head: &mut Option<Head>,
) -> Tried {
    let lease = match lease(client, peer, fresh).await {
        Ok(Some(lease)) => lease,
        Ok(None) => {
            worker.count_lost_client(false);
            return Tried::Done((Outcome::Unanswered, Next::Close));
        }
        Err(error) => {
            failed(worker, request, peer, &error);
            return if is_theirs(&error) {
                Tried::Gone
            } else {
                Tried::Lost
            };
        }
    };
    match exchange
        .run(worker, client, lease, Way::Node(peer), head)
        .await
    {
        Ok(done) => Tried::Done(done),
        Err(Failure::Client) => Tried::Done((Outcome::Unanswered, Next::Close)),
        // A pooled connection that was dead: no failure of the node's.
        Err(Failure::Stale) => Tried::Broken,
        // Nobody asks for a permit here.
        Err(Failure::Limited(_)) => Tried::Lost,
        Err(Failure::Upstream(error)) => {
            let goes_on = exchange.can_go_elsewhere(&error, peer.let_go.get());
            if goes_on && exchange.last_word() == Word::Moved {
                return Tried::Moved;
            }
            failed(worker, request, peer, &error);
            match goes_on {
                true if exchange.last_word() == Word::Waits => Tried::Gone,
                // Whether the node is gone, too, the next connection shows.
                true if error.kind != Kind::AnswerTimeout => Tried::Broken,
                true => Tried::Gone,
                false => Tried::Lost,
            }
        }
    }
}

/// A connection to `peer`; `None` if the client left while there was none yet.
async fn lease(client: &Client, peer: &Rc<Peer>, fresh: bool) -> Result<Option<Lease>, Error> {
    let connections = &peer.connections;
    if !fresh && let Some(lease) = connections.at_hand(clock::now()).await {
        return Ok(Some(lease));
    }
    // Boxed: few requests come here, and its state would be part of every connection's task.
    let leased = wait::beside(client, connections.lease(fresh, || ()));
    let (leased, left) = Box::pin(leased).await;
    let lease = leased?;
    if left {
        connections.give_back(lease, clock::now());
        return Ok(None);
    }
    Ok(Some(lease))
}

fn failed(worker: &Worker, request: &Request, peer: &Peer, error: &Error) {
    if let Some(peers) = &worker.peers {
        peers.tell_of(&peer.node, error);
    }
    tracing::debug!(id = %request.tale, node = %peer.node, %error, "a request could not be relayed");
    worker.metrics().own.relay.failed += 1;
}

/// Whether an attempt to connect failed for the other side's sake, and not for want of descriptors or
/// places here.
pub(super) fn is_theirs(error: &Error) -> bool {
    let ours = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EADDRNOTAVAIL,
    ];
    let code = error.os_code();
    !matches!(error.kind, Kind::Full | Kind::Draining)
        && !code.is_some_and(|code| ours.contains(&code))
}

/// What nirn-proxy answers when a node fails it.
async fn lost(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    left: Option<u64>,
) -> (Outcome, Next) {
    request.tale.because("node_lost");
    let reply = Reply::rate_limited(LOST, LOST_RETRY_AFTER, Scope::User);
    proxy::own_answer(worker, client, request, reply, left).await
}

/// Waits from `now` on for the head of a node's answer while the client is there; interim answers go to it
/// as they come. There is no deadline: the owner has them all, and a node that is gone is found out by the kernel.
pub(super) async fn head(
    worker: &Rc<Worker>,
    client: &mut Client,
    receiver: &mut Receiver<'_>,
    heard: Heard<'_>,
    now: Instant,
    came: &mut Option<Head>,
) -> Result<(), Attempt> {
    let node = receiver.as_raw_fd();
    let mut interim_bytes = 0;
    let mut there = There::since(now);
    loop {
        relay::look(
            &mut client.outbuf,
            &mut interim_bytes,
            receiver,
            heard,
            came,
        )?;
        if came.is_some() {
            return Ok(());
        }
        if !client.outbuf.is_empty() {
            client.flush(worker).await.map_err(|_| Attempt::Client)?;
        }
        match there
            .meanwhile(worker, client, pin!(relay::receive(receiver)))
            .await
        {
            Some(received) => received?,
            None => return Err(left(worker, &node)),
        }
    }
}

/// Connections to nodes end when the kernel has heard nothing for seconds, as of a window that stays closed:
/// so does that of a node that does not read a body while its request waits for a limit. For more than
/// certainly fits into that window, only the cluster says whether the node is there.
pub(super) struct Patience(RawFd);

/// What fits into a window that a system opens with (64 KiB by default, see tcp(7), `tcp_rmem`), with room.
const SURELY_TAKEN: usize = 16 * 1024;

impl Patience {
    /// For a request of which `flight` bytes are sent at once, and all there is to it if `whole`. `None` if it
    /// needs none. Must be dropped before `connection` is.
    pub(super) fn of(connection: &impl AsRawFd, flight: usize, whole: bool) -> Option<Self> {
        (flight > SURELY_TAKEN || !whole).then(|| {
            bear_silence(connection);
            Self(connection.as_raw_fd())
        })
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        // Refused of a connection that has ended, which is not used again.
        let _ = end_when_silent(&self.0, NODE_SILENCE_MAX);
    }
}

/// Sends a node what is queued, for as long as the client is there.
pub(super) async fn flush(
    worker: &Worker,
    client: &Client,
    sender: &mut Sender<'_>,
) -> Result<io::Result<()>, Attempt> {
    let node = sender.as_raw_fd();
    let flushed = There::since(clock::now())
        .meanwhile(worker, client, pin!(sender.flush()))
        .await;
    flushed.ok_or_else(|| left(worker, &node))
}

/// The client has left: so that the owner's queue is left, too, at once, `node`'s connection breaks.
pub(super) fn left(worker: &Worker, node: &impl AsRawFd) -> Attempt {
    worker.count_lost_client(false);
    reset_at_close(node);
    // What is being read from it would keep it open.
    shut(node, Half::Both);
    Attempt::Client
}

/// Tells the node that relayed a request that it waits here, and later that it goes on; nobody else,
/// and nothing of what may be sent twice anyway.
pub(super) struct Notes {
    wanted: bool,
    told: Cell<bool>,
}

impl Notes {
    pub(super) fn of(request: &Request) -> Self {
        Self {
            wanted: request.origin == Origin::Node && !request.method.is_safe(),
            told: Cell::new(false),
        }
    }

    /// It waits. False if the node is gone.
    pub(super) async fn waits(&self, worker: &Worker, client: &mut Client) -> bool {
        if !self.wanted {
            return true;
        }
        self.told.set(true);
        say(worker, client, WAITS).await
    }

    /// It goes on. False if the node is gone.
    pub(super) async fn goes(&self, worker: &Worker, client: &mut Client) -> bool {
        !self.told.get() || say(worker, client, GOES).await
    }
}

/// Sends the node that relayed a request away: nothing came of it here, nor will.
pub(super) async fn send_away(worker: &Worker, client: &mut Client) -> Next {
    say(worker, client, WAITS).await;
    Next::Linger
}

/// Sends a request back to the node that relayed it: another owns its identity now.
pub(super) async fn send_back(worker: &Worker, client: &mut Client, identity: u64) -> Next {
    if let Some(peers) = &worker.peers {
        peers.told(identity).await;
    }
    say(worker, client, MOVED).await;
    Next::Linger
}

async fn say(worker: &Worker, client: &mut Client, note: &[u8]) -> bool {
    client.outbuf.push(note);
    client.flush(worker).await.is_ok()
}
