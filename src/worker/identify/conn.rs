//! One connection of the identify queue: a request, its wait, the answer, the next request.
//!
//! The task is as small as the wait: what reads and what answers is boxed for as long as it takes, and
//! what waits is a block and no `async fn`, which would keep each argument twice.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use monoio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};

use super::{
    AUTHORIZATION_BYTES_MAX, Verdict, Waiting, draining, is_careful, query, refused, relay, sent,
};
use crate::clock::{self, Instant};
use crate::error::Kind as ErrorKind;
use crate::http1::{
    BadRequest, BodyTracker, CONTINUE, Framing, Parse, Reply, RequestOutline, Scope, Version,
    may_complete, outline_request,
};
use crate::identify::Ask;
use crate::io::deadline::Armed;
use crate::io::socket::{Half, Peek, borrow, peek};
use crate::limit;
use crate::metrics::Refusal;
use crate::route::PathIdentity;
use crate::route::identity::{self, Kind};
use crate::worker::conn::{self, Client, Next};
use crate::worker::peers::{Origin, Unproven};
use crate::worker::wait::{self, First, first};
use crate::worker::{Worker, reply};

/// What a shard that may go is told, as twilight's gateway-queue says it.
const FREE: &[u8] = br#"{"message": "You're free to connect now! :)"}"#;

/// Room asked for before a read.
const READ_ROOM: usize = 1024;

/// Bytes of a body that are read and thrown away; nobody sends one at all.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A host that is gone without a word (power, network) is found out within this and three probes, so that
/// its shard costs its bot no turn; waits can take hours.
const ALIVE_AFTER: Duration = Duration::from_secs(60);
const ALIVE_PROBE: Duration = Duration::from_secs(10);
const ALIVE_PROBES: u32 = 3;

/// A request that has been read.
struct Asked {
    ask: Ask,
    /// For asking `/gateway/bot`.
    token: Option<Rc<[u8]>>,
    /// The same for asking another node; `None` too for who has none.
    authorization: Option<Rc<[u8]>>,
    to: To,
}

/// How it is to be answered.
#[derive(Clone, Copy)]
pub(super) struct To {
    version: Version,
    keep_alive: bool,
    head_only: bool,
    /// When the request's last byte was there.
    pub(super) since: Instant,
    /// Another node asks, which answers the client.
    routed: bool,
    /// Another node may have to be asked.
    relayable: bool,
}

/// Has the kernel look now and then whether the client is still there.
pub(in crate::worker) fn keep_alive(stream: &TcpStream) {
    let probes = TcpKeepalive::new()
        .with_time(ALIVE_AFTER)
        .with_interval(ALIVE_PROBE)
        .with_retries(ALIVE_PROBES);
    // Without it, such a client's shard takes one turn.
    let _ = SockRef::from(&borrow(stream)).set_tcp_keepalive(&probes);
}

/// Serves one connection to its end. The client is boxed, since a task holds what it is given twice.
pub(in crate::worker) fn serve(worker: Rc<Worker>, client: Client) -> impl Future<Output = ()> {
    let mut client = Box::new(client);
    async move {
        // Here, and lent to whoever needs it: what is passed on and back is kept in each place it was.
        let mut waiting = None;
        loop {
            client.wake();
            if !conn::await_request(&worker, &mut client).await {
                return client.farewell();
            }
            let next = 'one: {
                // No arm waits: what is matched on would be kept for as long as that.
                let (to, asked) = match Box::pin(line_up(&worker, &mut client, &mut waiting)).await
                {
                    Ok(lined_up) => lined_up,
                    Err(next) => break 'one next,
                };
                client.sleep();
                let verdict = match &asked {
                    None => turn(&client, to, &mut waiting).await,
                    Some(asked) => {
                        Box::pin(relay::turn(&worker, &client, to, asked, &mut waiting)).await
                    }
                };
                let Some(verdict) = verdict else {
                    return worker.count_lost_client(false);
                };
                Box::pin(answer(&worker, &mut client, to, verdict, &mut waiting)).await
            };
            if next != Next::Request {
                return end(&worker, &mut client, next).await;
            }
            client.turn.round().await;
        }
    }
}

async fn end(worker: &Worker, client: &mut Client, next: Next) {
    match next {
        Next::Linger => Box::pin(conn::linger(worker, client)).await,
        Next::Close | Next::Request => client.farewell(),
    }
}

/// Reads a request and lines its shard up, into `place`, unless another node may have to be asked for
/// it. If it does not wait: what comes next.
async fn line_up(
    worker: &Rc<Worker>,
    client: &mut Client,
    place: &mut Option<Waiting>,
) -> Result<(To, Option<Box<relay::Asked>>), Next> {
    let Asked {
        ask,
        token,
        authorization,
        to,
    } = read(worker, client).await?;
    if to.relayable {
        let asked = relay::Asked {
            ask,
            token,
            authorization,
        };
        return Ok((to, Some(Box::new(asked))));
    }
    match Waiting::line_up(worker, ask, token, to.routed) {
        Ok(waiting) => {
            *place = Some(waiting);
            Ok((to, None))
        }
        Err(verdict) => Err(answer(worker, client, to, verdict, place).await),
    }
}

/// Waits for the verdict while the client is there; `None` when it leaves.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn keeps each argument twice for as long as it waits"
)]
pub(super) fn turn<'c>(
    client: &'c Client,
    to: To,
    waiting: &'c mut Option<Waiting>,
) -> impl Future<Output = Option<Verdict>> + 'c {
    async move {
        let waiting = waiting.as_mut()?;
        loop {
            let heard = {
                let mut readable = pin!(client.stream.readable(false));
                poll_fn(|cx| match waiting.poll_verdict(cx) {
                    Poll::Ready(verdict) => Poll::Ready(Heard::Verdict(verdict)),
                    Poll::Pending => readable.as_mut().poll(cx).map(|ready| match ready {
                        Ok(()) => Heard::Stream(peek(&client.stream)),
                        Err(_) => Heard::Stream(Peek::Broken),
                    }),
                })
                .await
            };
            // Another node does not end its half.
            let is_late = || to.routed || wait::is_late(client, to.since, Duration::ZERO);
            match heard {
                Heard::Verdict(verdict) => {
                    // An end that came with the verdict was not seen while watching.
                    let gone = wait::has_ended(&client.stream).unwrap_or(true) && is_late();
                    return (!gone).then_some(verdict);
                }
                Heard::Stream(Peek::Quiet) => {}
                Heard::Stream(Peek::Broken) => return None,
                Heard::Stream(Peek::Ended) if is_late() => return None,
                // It has nothing more to ask, and is answered all the same; or the next request has come, or
                // a record of TLS', and an end may come behind it.
                Heard::Stream(peek @ (Peek::Ended | Peek::Bytes)) => {
                    return Box::pin(unseen(client, to.since, waiting, peek)).await;
                }
            }
        }
    }
}

/// What was heard of first.
enum Heard {
    Verdict(Verdict),
    Stream(Peek),
}

/// Waits for the verdict of a client that has ended its half, or has sent more, which hides whether it
/// is still there.
async fn unseen(
    client: &Client,
    since: Instant,
    waiting: &mut Waiting,
    peek: Peek,
) -> Option<Verdict> {
    if peek == Peek::Ended {
        return Some(waiting.verdict().await);
    }
    let is_late = |unseen| wait::is_late(client, since, unseen);
    match first(waiting.verdict(), wait::ended(&client.stream)).await {
        First::Left(verdict) => {
            let ended = wait::has_ended(&client.stream).unwrap_or(true);
            (!ended || !is_late(Duration::ZERO)).then_some(verdict)
        }
        First::Right(unseen) if is_late(unseen) => None,
        First::Right(_) => Some(waiting.verdict().await),
    }
}

/// Tells the client, and the queue that it was told.
async fn answer(
    worker: &Rc<Worker>,
    client: &mut Client,
    to: To,
    verdict: Verdict,
    waiting: &mut Option<Waiting>,
) -> Next {
    // The node that asked asks another.
    if to.routed && matches!(verdict, Verdict::Draining) {
        *waiting = None;
        return Next::Close;
    }
    let reply = match &verdict {
        Verdict::Go => Reply::json(200, FREE),
        Verdict::Told(answer) => told(answer),
        Verdict::Refused(refusal) => refused(refusal),
        Verdict::Draining | Verdict::Moved => {
            worker.count_refusal(limit::Reason::Draining);
            draining()
        }
    };
    let goes_on = to.keep_alive && !worker.process.is_draining();
    let reply = reply.version(to.version).keep_alive(goes_on);
    // From here on, something of the answer may leave.
    let ticket = waiting.take().and_then(Waiting::take);
    let told = reply::send(worker, client, &reply, to.head_only).await;
    if let Some(ticket) = ticket {
        sent(worker, ticket);
    }
    match told {
        Ok(()) if goes_on => Next::Request,
        Ok(()) => Next::Linger,
        Err(_) => Next::Close,
    }
}

/// What another queue answered, as this one's.
fn told(answer: &relay::Answer) -> Reply<'_> {
    let mut reply = Reply::json(answer.status, &answer.body);
    if let Some(wait) = answer.retry_after {
        reply = reply.retry_after(wait);
    }
    if answer.status == 429 {
        reply = reply.scope(Scope::User);
    }
    reply
}

/// Why a request was not read.
enum Unread {
    /// The connection ended inside it.
    Gone,
    /// It did not come in time.
    Slow,
    Bad(BadRequest),
    /// Its body is not what its head says.
    BadBody,
    BodyTooLarge,
    /// It claims to be another node's and cannot show it.
    Unproven,
}

/// Reads a request that has begun, and throws its body away. How its connection is to end if there is
/// none.
async fn read(worker: &Rc<Worker>, client: &mut Client) -> Result<Asked, Next> {
    let until = clock::now() + worker.process.config.client_header_timeout;
    let unread = match read_by(worker, client, until).await {
        Ok(asked) => return Ok(asked),
        Err(unread) => unread,
    };
    let (kind, reply) = match unread {
        Unread::Gone => {
            worker.count_lost_client(false);
            return Err(Next::Close);
        }
        Unread::Unproven => return Err(Box::pin(conn::turn_away(worker, client)).await),
        Unread::Slow => (
            ErrorKind::ClientTimeout,
            Reply::error(408, "the request did not come in time"),
        ),
        Unread::Bad(bad) if bad.status() == 431 => {
            (ErrorKind::HeadTooLarge, Reply::bad_request(bad))
        }
        Unread::Bad(bad) => (ErrorKind::BadRequest, Reply::bad_request(bad)),
        Unread::BadBody => (
            ErrorKind::BadRequest,
            Reply::error(400, "the request's body is malformed"),
        ),
        Unread::BodyTooLarge => (
            ErrorKind::BadRequest,
            Reply::error(413, "the request's body is larger than 1 MiB"),
        ),
    };
    {
        let mut metrics = worker.metrics();
        metrics.own.refuse(Refusal::Malformed);
        metrics.own.fail(kind);
    }
    // The connection ends either way.
    let _ = reply::send(worker, client, &reply, false).await;
    Err(Next::Linger)
}

async fn read_by(
    worker: &Rc<Worker>,
    client: &mut Client,
    until: Instant,
) -> Result<Asked, Unread> {
    let mut seen = 0;
    loop {
        let bytes = client.inbuf.as_slice();
        if seen == 0 || may_complete(bytes, seen) {
            match outline_request(bytes) {
                Parse::Complete(outline) => {
                    let mut asked = understand(worker, &outline)?;
                    let (len, framing) = (outline.len, outline.framing);
                    let continues = outline.expect_continue;
                    client.inbuf.consume(len);
                    // One without a certain end is left where it is; its connection ends.
                    let framing = framing.unwrap_or(Framing::None);
                    if continues && !matches!(framing, Framing::None | Framing::Length(0)) {
                        client.outbuf.push(CONTINUE);
                        client.flush(worker).await.map_err(|_| Unread::Gone)?;
                    }
                    discard(worker, client, framing, until).await?;
                    asked.to.since = clock::now();
                    return Ok(asked);
                }
                Parse::Invalid(bad) => return Err(Unread::Bad(bad)),
                Parse::Partial => {}
            }
        }
        seen = bytes.len();
        more(worker, client, until).await?;
    }
}

/// Reads once.
async fn more(worker: &Worker, client: &mut Client, until: Instant) -> Result<(), Unread> {
    let armed: Armed = worker.deadlines.arm(&client.stream, Half::Read, until);
    let count = client.read(READ_ROOM).await;
    if armed.expired() {
        return Err(Unread::Slow);
    }
    match count {
        Ok(1..) => Ok(()),
        Ok(_) | Err(_) => Err(Unread::Gone),
    }
}

async fn discard(
    worker: &Worker,
    client: &mut Client,
    framing: Framing,
    until: Instant,
) -> Result<(), Unread> {
    let mut tracker = BodyTracker::new(framing);
    let mut discarded = 0;
    loop {
        let progress = tracker.take(client.inbuf.as_slice());
        let consumed = progress.map_err(|_| Unread::BadBody)?.consumed;
        client.inbuf.consume(consumed);
        discarded += consumed;
        if tracker.done() {
            return Ok(());
        }
        if discarded > BODY_BYTES_MAX {
            return Err(Unread::BodyTooLarge);
        }
        more(worker, client, until).await?;
    }
}

/// Whose shard it is, and which.
fn understand(worker: &Rc<Worker>, outline: &RequestOutline<'_>) -> Result<Asked, Unread> {
    let config = &worker.process.config;
    let origin = match &worker.peers {
        Some(peers) => peers.shown(outline.routed_to, outline.node_pass),
        None => Ok(Origin::Client),
    };
    let routed = origin.map_err(|Unproven| Unread::Unproven)? != Origin::Client;
    let own = identity::parse(outline.authorization);
    let sender = match (own.kind, &config.discord_token) {
        // Another node has said whose shard it is.
        (Kind::None, Some(token)) if !routed => identity::parse(Some(token.authorization())),
        _ => own,
    };
    // The shard IDENTIFYs with the token alone: spelled in two ways, it is one bot all the same, and
    // Discord answers one of the spellings only.
    let spelled = sender
        .bot_token()
        .map(|token| [&b"Bot "[..], token].concat());
    let sender = spelled
        .as_deref()
        .map_or(sender, |spelled| identity::parse(Some(spelled)));
    let keys = &worker.process.keys;
    let bot = keys.identity_key(&PathIdentity::Authorization, &sender);
    let token = spelled
        .as_deref()
        .filter(|spelled| spelled.len() <= AUTHORIZATION_BYTES_MAX);
    let (shard, max_wait) = query(outline.target);
    if shard.is_none()
        && token.is_some()
        && let Some(door) = &worker.identify
        && let Some(unsaid) = door.unnamed.happened(clock::now())
    {
        tracing::warn!(
            unsaid,
            "a shard did not name itself by ?shard=; it is taken for shard 0"
        );
    }
    let authorization = spelled.as_deref().or(outline.authorization);
    let fits = authorization.is_none_or(|told| told.len() <= AUTHORIZATION_BYTES_MAX);
    let relayable = !routed && fits && relay::is_on(worker);
    let authorization = authorization.filter(|_| relayable).map(Rc::from);
    Ok(Asked {
        ask: Ask {
            bot,
            client: sender.client(),
            has_token: token.is_some(),
            shard: shard.unwrap_or(0),
            max_wait,
            careful: routed && is_careful(outline.target),
            waiter: 0,
        },
        token: token.map(Rc::from),
        to: To {
            version: outline.version,
            keep_alive: outline.keep_alive && outline.framing.is_some(),
            head_only: outline.head_only,
            since: Instant::ZERO,
            routed,
            relayable,
        },
        authorization,
    })
}
