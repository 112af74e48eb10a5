//! The answer's way back: its head, what the limiter learns from it, its body.

use std::cell::Cell;
use std::io;
use std::mem;
use std::rc::Rc;

use super::Worker;
use super::conn::Client;
use super::elsewhere::{NOTE, Word};
use super::exchange::Attempt;
use super::pace::Pace;
use super::request::Request;
use crate::caseless::is;
use crate::error::{Error, Kind};
use crate::http1::{
    BodyTracker, ClientSide, ContentCoding, Framing, Parse, Relay, ResponseHead, ResponseOutline,
    Version, parse_response,
};
use crate::io::socket::{Half, reset_at_close};
use crate::io::{Buf, Turn};
use crate::limit::{Answer, Scope};
use crate::upstream::connection::Receiver;

/// Error bodies up to this size are read before the limiter is told, since they say more precisely
/// than the headers how long to wait and what was wrong. Discord's are below 1 KiB.
const ERROR_BODY_BYTES_MAX: u64 = 8 * 1024;

/// Interim answers (1xx) to one request, all together; some are kept for a client that cannot be
/// written to yet. Early hints are one or two; an upstream that sends more has lost its way.
const INTERIM_BYTES_MAX: usize = 16 * 1024;

/// What stays known of an answer's head; the head itself is still at the front of
/// [`Receiver::plain`].
pub(super) struct Head {
    /// What the limiter is told.
    pub(super) answer: Answer,
    outline: ResponseOutline,
    /// Bytes of head and body, if both lie whole at the front of [`Receiver::plain`].
    pub(super) whole: Option<usize>,
    /// It is another node's, written as a client gets it: see [`ResponseHead::is_as_encoded`].
    as_encoded: bool,
}

impl Head {
    /// Whether the end of the body can be seen without the connection's end.
    pub(super) fn can_keep_alive(&self) -> bool {
        self.outline.framing != Framing::UntilClose
    }

    /// Whether the upstream keeps the connection open.
    pub(super) fn keep_alive(&self) -> bool {
        self.outline.keep_alive
    }

    /// Whether it is a 429 for a resource that others use up as well.
    pub(super) fn is_shared(&self) -> bool {
        self.answer.status == 429 && self.answer.headers.scope == Scope::Shared
    }
}

/// What an answer's head is listened to for.
#[derive(Clone, Copy)]
pub(super) struct Heard<'r> {
    pub(super) request: &'r Request,
    /// It comes from a node of the cluster, which says whether the request waits there; that node has
    /// told its limiter the rest.
    pub(super) word: Option<&'r Cell<Word>>,
}

/// Waits for the answer's head and puts it into `came`, which is empty; interim answers (1xx) go to
/// the client as they come.
pub(super) async fn head(
    worker: &Rc<Worker>,
    client: &mut Client,
    receiver: &mut Receiver<'_>,
    heard: Heard<'_>,
    came: &mut Option<Head>,
) -> Result<(), Attempt> {
    let mut interim_bytes = 0;
    loop {
        look(
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
        receive(receiver).await?;
    }
}

/// [`head`] for when the client's connection is busy: interim answers are kept in `interim`.
pub(super) async fn head_into(
    interim: &mut Buf,
    receiver: &mut Receiver<'_>,
    heard: Heard<'_>,
    came: &mut Option<Head>,
) -> Result<(), Attempt> {
    let mut interim_bytes = 0;
    loop {
        look(interim, &mut interim_bytes, receiver, heard, came)?;
        if came.is_some() {
            return Ok(());
        }
        receive(receiver).await?;
    }
}

pub(super) async fn receive(receiver: &mut Receiver<'_>) -> Result<(), Error> {
    match receiver.receive().await? {
        0 => Err(Error::new(Kind::ClosedBeforeAnswer)),
        _ => Ok(()),
    }
}

/// Fills `came` with the head, if it and what must be read of its body has come. Half a KiB, so it
/// is written where it stays. `interim_bytes` counts those of the interim answers before it.
pub(super) fn look(
    interim: &mut Buf,
    interim_bytes: &mut usize,
    receiver: &mut Receiver<'_>,
    heard: Heard<'_>,
    came: &mut Option<Head>,
) -> Result<(), Error> {
    let request = heard.request;
    loop {
        let plain = receiver.plain();
        if plain.is_empty() {
            return Ok(());
        }
        let bytes = plain.as_slice();
        let head = match parse_response(bytes, request.method) {
            Parse::Complete(head) => head,
            Parse::Partial => return Ok(()),
            Parse::Invalid(_) => return Err(Error::new(Kind::GarbageAnswer)),
        };
        if head.is_interim() {
            *interim_bytes += head.len;
            if *interim_bytes > INTERIM_BYTES_MAX {
                return Err(Error::new(Kind::GarbageAnswer));
            }
            let note = head.headers().find(|(name, _)| is(name, NOTE));
            if let Some((_, note)) = note {
                // Not for clients; Discord says no such thing, and is not believed.
                if let Some(word) = heard.word {
                    word.set(Word::of(note));
                }
                let len = head.len;
                plain.consume(len);
                continue;
            }
            // 100 answers an expectation that weir has already met itself.
            if head.status != 100 && request.version == Version::Http11 {
                let side = ClientSide {
                    version: request.version,
                    keep_alive: true,
                };
                // An interim answer has no body to be relayed.
                let _ = head.encode(side, interim.writable());
            }
            let len = head.len;
            plain.consume(len);
            continue;
        }
        match heard.word {
            None => learn(&head, bytes, request, came),
            Some(_) => {
                *came = Some(Head {
                    answer: Answer::new(head.status),
                    outline: head.outline(),
                    whole: None,
                    as_encoded: head.is_as_encoded(),
                });
            }
        }
        return Ok(());
    }
}

/// Reads what the limiter wants to know; `came` stays empty if the error body it lies in is not
/// complete.
fn learn(head: &ResponseHead<'_>, bytes: &[u8], request: &Request, came: &mut Option<Head>) {
    let mut answer = Answer::new(head.status).in_milliseconds(request.in_milliseconds);
    let mut whole = None;
    for (name, value) in head.headers() {
        answer.header(name, value);
    }
    if matches!(head.status, 401 | 403 | 404 | 429) {
        let body = bytes.get(head.len..).unwrap_or_default();
        match error_body(head.framing, body) {
            ErrorBody::Whole { data, len } => {
                if let Some(content) = ContentCoding::of(head).decode(&data) {
                    answer.error_body(&content);
                }
                whole = Some(head.len + len);
            }
            ErrorBody::Partial => return,
            ErrorBody::NotKept => {}
        }
    }
    *came = Some(Head {
        answer,
        outline: head.outline(),
        whole,
        as_encoded: false,
    });
}

/// The body of an error answer.
enum ErrorBody {
    /// Its data, still in its content coding, and how many bytes it takes as it came.
    Whole { data: Vec<u8>, len: usize },
    /// More of it is to come.
    Partial,
    /// Too large to be looked at, or without an end of its own.
    NotKept,
}

/// Gathers a small error body, compressed or not: what is relayed are the bytes that came.
fn error_body(framing: Framing, bytes: &[u8]) -> ErrorBody {
    let mut tracker = BodyTracker::new(framing);
    if tracker.remaining_hint().unwrap_or(0) > ERROR_BODY_BYTES_MAX
        || framing == Framing::UntilClose
    {
        return ErrorBody::NotKept;
    }
    let mut data = Vec::new();
    match tracker.decode(bytes, |range| data.extend_from_slice(&bytes[range])) {
        Ok(progress) if tracker.done() => ErrorBody::Whole {
            data,
            len: progress.consumed,
        },
        Ok(_) if bytes.len() as u64 <= ERROR_BODY_BYTES_MAX => ErrorBody::Partial,
        Ok(_) | Err(_) => ErrorBody::NotKept,
    }
}

/// What came of relaying an answer.
pub(super) struct Relayed {
    /// The body has come whole, and both connections can go on as they were told to.
    pub(super) clean: bool,
    /// Nothing of it was waited for.
    pub(super) at_once: bool,
}

/// Sends the answer that begins at the front of the receiver's bytes to the client, but for its end,
/// which stays in [`Client::outbuf`].
///
/// # Errors
/// The client is gone. An upstream that broke off is no error here: the client sees its connection
/// end inside the body.
pub(super) async fn answer(
    worker: &Rc<Worker>,
    client: &mut Client,
    receiver: &mut Receiver<'_>,
    request: &Request,
    head: &Head,
    goes_on: bool,
) -> io::Result<Relayed> {
    const BROKEN: Relayed = Relayed {
        clean: false,
        at_once: false,
    };
    if goes_on && request.version == Version::Http11 && passes_on(client, receiver, head) {
        return Ok(Relayed {
            clean: true,
            at_once: true,
        });
    }
    let parsed = head.outline.over(receiver.plain().as_slice());
    let side = ClientSide {
        version: request.version,
        keep_alive: goes_on,
    };
    let relay = parsed.encode(side, client.outbuf.writable());
    let len = parsed.len;
    receiver.plain().consume(len);
    let mut body = BodyTracker::new(head.outline.framing);
    let stall = worker.process.config.request_timeout;
    let mut pace = None;
    let mut turn = Turn::default();
    loop {
        let plain = receiver.plain();
        let bytes = plain.as_slice();
        let out = &mut client.outbuf;
        let taken = if relay.dechunk {
            body.decode(bytes, |range| out.push(&bytes[range]))
        } else {
            body.take(bytes)
                .inspect(|progress| out.push(&bytes[..progress.consumed]))
        };
        let broken = taken.is_err();
        if let Ok(progress) = taken {
            plain.consume(progress.consumed);
        }
        if body.done() && !broken {
            return Ok(Relayed {
                clean: relay.keep_alive == goes_on,
                at_once: pace.is_none(),
            });
        }
        let pace = pace.get_or_insert_with(|| Pace::holding(&worker.process.config));
        client.flush_at(worker, pace).await?;
        turn.round().await;
        if broken {
            cut(worker, client, relay, head);
            return Ok(BROKEN);
        }
        let armed = worker.deadlines.arm_after(receiver, Half::Both, stall);
        let received = receiver.receive().await;
        let more = match (armed.expired(), received) {
            (false, Ok(0)) => false,
            (false, Ok(_)) => true,
            (true, _) | (_, Err(_)) => {
                cut(worker, client, relay, head);
                return Ok(BROKEN);
            }
        };
        if !more {
            if !(body.done_at_close() && receiver.ended_cleanly()) {
                cut(worker, client, relay, head);
            }
            return Ok(BROKEN);
        }
    }
}

/// Puts an answer that has come whole, and needs no other head, into [`Client::outbuf`] by passing on
/// the buffer that it lies in. False if it is none of those.
fn passes_on(client: &mut Client, receiver: &mut Receiver<'_>, head: &Head) -> bool {
    let plain = receiver.plain();
    if !head.as_encoded || !client.outbuf.is_empty() {
        return false;
    }
    let mut body = BodyTracker::new(head.outline.framing);
    let bytes = &plain.as_slice()[head.outline.head_len()..];
    let is_all = body.take(bytes).is_ok_and(|p| p.consumed == bytes.len());
    if !(is_all && body.done()) {
        return false;
    }
    mem::swap(plain, &mut client.outbuf);
    true
}

/// Counts a cut-off answer and makes it look like one: a client that only the end of the connection
/// tells the end of the body must see it break, not end.
fn cut(worker: &Worker, client: &mut Client, relay: Relay, head: &Head) {
    tracing::debug!("the upstream broke off its answer");
    worker.metrics().own.fail(Kind::BodyTruncated);
    if let Some(tls) = &mut client.tls {
        tls.cut();
    }
    if relay.dechunk || !head.can_keep_alive() {
        reset_at_close(&client.stream);
    }
}
