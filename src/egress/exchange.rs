//! One plain request to a host and its answer.
//!
//! The body goes up while the answer comes down: an answer may begin before the body has ended. Both
//! ways are relayed as they arrive, in a few pooled buffers, whatever their size. A host's connection
//! is kept for the client's next request where both agree that it may be.

use std::cell::Cell;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use monoio::io::{OwnedReadHalf, OwnedWriteHalf};
use monoio::net::TcpStream;

use super::client::{Client, is_bodiless, open, reply, send, takes_interim};
use super::hosts::Destination;
use super::upstream::Up;
use super::watch::{self, Watched};
use super::worker::Worker;
use crate::clock::{self, Instant};
use crate::http1::{
    BodyTracker, CONTINUE, ClientSide, Framing, Method, Parse, RequestHead, Version, parse_response,
};
use crate::io::Buf;
use crate::io::first::{First, first};
use crate::io::socket::{Half, read_some, reset_at_close, shut, write_all};
use crate::metrics::ForwardRefusal;

/// Room asked for before a read.
const READ_ROOM: usize = 1024;

/// Interim answers (1xx) to one request, all together.
const INTERIM_BYTES_MAX: usize = 16 * 1024;

/// What stays of a request when its bytes have left the client's buffer.
pub(super) struct Request {
    method: Method,
    version: Version,
    framing: Framing,
    keep_alive: bool,
    expect_continue: bool,
    /// The head as it goes to the host.
    head: Vec<u8>,
}

/// How an exchange left the client's connection.
pub(super) enum After {
    Request,
    Close,
    /// To be closed; the client may still be sending.
    Linger,
}

impl Request {
    pub(super) fn new(head: &RequestHead<'_>, authority: &[u8]) -> Self {
        let mut encoded = Vec::new();
        head.encode_onward(authority, &mut encoded);
        Self {
            method: head.method,
            version: head.version,
            framing: head.framing,
            keep_alive: head.keep_alive,
            expect_continue: head.expect_continue,
            head: encoded,
        }
    }

    /// Whether it may be sent again when a kept connection turns out to be over.
    fn may_be_repeated(&self) -> bool {
        self.method.is_safe() && is_bodiless(self.framing)
    }
}

/// Sends a request to its host and relays the answer.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    destination: Destination,
    since: Instant,
) -> After {
    let was_kept = client.has_kept();
    let mut up = match open(worker, client, destination.clone(), Some(since)).await {
        None => return After::Close,
        Some(Ok(up)) => up,
        Some(Err(reason)) => return refuse(worker, client, request, reason).await,
    };
    if request.expect_continue {
        client.outbuf.push(CONTINUE);
        if write_all(&mut client.writer, &mut client.outbuf)
            .await
            .is_err()
        {
            return After::Close;
        }
    }
    let mut ended = relay(worker, client, &mut up, request, since).await;
    if was_kept && matches!(ended, Ended::Unanswered) && request.may_be_repeated() {
        // It ended just when it was used again (RFC 9112 9.3.1).
        drop(up);
        up = match open(worker, client, destination, Some(since)).await {
            None => return After::Close,
            Some(Ok(up)) => up,
            Some(Err(reason)) => return refuse(worker, client, request, reason).await,
        };
        ended = relay(worker, client, &mut up, request, since).await;
    }
    match ended {
        Ended::Whole {
            keep_up,
            keep_client,
            sent_all,
        } => {
            let goes_on = sent_all && keep_client && !worker.hub.is_draining();
            if keep_up && sent_all && goes_on {
                client.keep(up);
            }
            if goes_on {
                After::Request
            } else {
                After::Linger
            }
        }
        Ended::Unanswered => {
            drop(up);
            worker.hub.refuse(ForwardRefusal::Broken);
            let told = reply(worker, ForwardRefusal::Broken);
            send(worker, client, &told, request.method == Method::Head).await;
            After::Linger
        }
        Ended::Cut => {
            // Closing in order would make a part look like the whole.
            reset_at_close(&client.fd);
            After::Close
        }
        Ended::ClientLeft => After::Close,
    }
}

async fn refuse(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    reason: ForwardRefusal,
) -> After {
    let goes_on = request.keep_alive && is_bodiless(request.framing) && !worker.hub.is_draining();
    let told = reply(worker, reason)
        .version(request.version)
        .keep_alive(goes_on);
    let head_only = request.method == Method::Head;
    match send(worker, client, &told, head_only).await {
        true if goes_on => After::Request,
        true => After::Linger,
        false => After::Close,
    }
}

/// How an exchange ended.
enum Ended {
    /// With a whole answer.
    Whole {
        keep_up: bool,
        keep_client: bool,
        /// Whether the request had been sent in full.
        sent_all: bool,
    },
    /// Without a byte of an answer to the client.
    Unanswered,
    /// In the middle of the answer.
    Cut,
    ClientLeft,
}

async fn relay(
    worker: &Rc<Worker>,
    client: &mut Client,
    up: &mut Up,
    request: &Request,
    since: Instant,
) -> Ended {
    let Client {
        fd,
        reader,
        writer,
        inbuf,
        outbuf,
        ..
    } = client;
    let up_fd = up.as_raw_fd();
    let entry = up.entry().clone();
    let slot = up.slot.clone();
    let moved = |sent: usize, received: usize| {
        entry.touch(clock::now());
        slot.moved(sent, received);
    };
    let Up {
        reader: up_reader,
        writer: up_writer,
        buf,
        ..
    } = up;
    let answering = Cell::new(false);
    let sent_all = Cell::new(false);
    let upload = async {
        let mut upload = Upload {
            from: &mut *reader,
            inbuf: &mut *inbuf,
            to: up_writer,
        };
        let uploaded = upload.run(request, |count| moved(count, 0)).await;
        match uploaded {
            Ok(()) => sent_all.set(true),
            Err(Broken::Client) => return,
            // The host may have answered before it ended.
            Err(Broken::Host) => return std::future::pending().await,
        }
        let watched = Watched {
            fd: *fd,
            reader,
            inbuf,
        };
        watch::until_left(watched, &worker.hub, Some(since), &answering).await;
    };
    let download = Download {
        from: up_reader,
        buf,
        to: writer,
        outbuf,
        answering: &answering,
    };
    let goes_on = request.keep_alive && !worker.hub.is_draining();
    let download = download.run(request, goes_on, |count| moved(0, count));
    match first(download, upload).await {
        First::Left(Ok(answer)) => Ended::Whole {
            keep_up: answer.keep_up,
            keep_client: answer.keep_client,
            sent_all: sent_all.get(),
        },
        First::Left(Err(Broken::Host)) if answering.get() => Ended::Cut,
        First::Left(Err(Broken::Host)) => Ended::Unanswered,
        First::Left(Err(Broken::Client)) | First::Right(()) => {
            shut(&up_fd, Half::Both);
            Ended::ClientLeft
        }
    }
}

/// Who broke an exchange off.
enum Broken {
    Client,
    Host,
}

struct Upload<'u> {
    from: &'u mut OwnedReadHalf<TcpStream>,
    inbuf: &'u mut Buf,
    to: &'u mut OwnedWriteHalf<TcpStream>,
}

impl Upload<'_> {
    /// Sends head and body, as it comes.
    async fn run(&mut self, request: &Request, moved: impl Fn(usize)) -> Result<(), Broken> {
        let mut tracker = BodyTracker::new(request.framing);
        let mut out = Buf::new();
        out.push(&request.head);
        loop {
            if !tracker.done() {
                let bytes = self.inbuf.as_slice();
                // A body that is no body leaves the host with half of it: its connection ends.
                let progress = tracker.take(bytes).map_err(|_| Broken::Client)?;
                out.push(&bytes[..progress.consumed]);
                self.inbuf.consume(progress.consumed);
            }
            if !out.is_empty() {
                let count = out.len();
                let written = write_all(self.to, &mut out).await;
                written.map_err(|_| Broken::Host)?;
                moved(count);
            }
            if tracker.done() {
                return Ok(());
            }
            match read_some(self.from, self.inbuf, READ_ROOM).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Broken::Client),
            }
        }
    }
}

/// What is known of an answer once it is over.
struct Answer {
    keep_up: bool,
    keep_client: bool,
}

struct Download<'d> {
    from: &'d mut OwnedReadHalf<TcpStream>,
    buf: &'d mut Buf,
    to: &'d mut OwnedWriteHalf<TcpStream>,
    outbuf: &'d mut Buf,
    /// Set once the client has been sent something of the answer.
    answering: &'d Cell<bool>,
}

impl Download<'_> {
    /// Relays the answer.
    async fn run(
        mut self,
        request: &Request,
        goes_on: bool,
        moved: impl Fn(usize),
    ) -> Result<Answer, Broken> {
        let (framing, up_goes_on, relay) = self.head(request, goes_on, &moved).await?;
        self.answering.set(true);
        let mut tracker = BodyTracker::new(framing);
        loop {
            if !tracker.done() {
                let bytes = self.buf.as_slice();
                let out = self.outbuf.writable();
                let progress = if relay.dechunk {
                    tracker.decode(bytes, |range| out.extend_from_slice(&bytes[range]))
                } else {
                    tracker.take(bytes)
                };
                let consumed = progress.map_err(|_| Broken::Host)?.consumed;
                if !relay.dechunk {
                    out.extend_from_slice(&bytes[..consumed]);
                }
                self.buf.consume(consumed);
            }
            self.flush().await?;
            if tracker.done() {
                break;
            }
            match self.receive(&moved).await {
                Ok(1..) => {}
                Ok(0) if framing == Framing::UntilClose => break,
                Ok(0) | Err(_) => return Err(Broken::Host),
            }
        }
        // Bytes behind an answer belong to none.
        let keep_up = up_goes_on && framing != Framing::UntilClose && self.buf.is_empty();
        self.buf.release();
        Ok(Answer {
            keep_up,
            keep_client: relay.keep_alive,
        })
    }

    /// Relays interim answers, and puts the answer's head into `outbuf`.
    async fn head(
        &mut self,
        request: &Request,
        goes_on: bool,
        moved: &impl Fn(usize),
    ) -> Result<(Framing, bool, crate::http1::Relay), Broken> {
        let mut interim_bytes = 0;
        let side = ClientSide {
            version: request.version,
            keep_alive: goes_on,
        };
        loop {
            match parse_response(self.buf.as_slice(), request.method) {
                Parse::Complete(head) if head.is_interim() => {
                    interim_bytes += head.len;
                    if interim_bytes > INTERIM_BYTES_MAX {
                        return Err(Broken::Host);
                    }
                    // 100 answers an expectation that the proxy has already met itself.
                    if head.status != 100 && takes_interim(request.version) {
                        let _ = head.encode(side, self.outbuf.writable());
                    }
                    let len = head.len;
                    self.buf.consume(len);
                    if !self.outbuf.is_empty() {
                        self.flush().await?;
                    }
                }
                Parse::Complete(head) => {
                    let relay = head.encode(side, self.outbuf.writable());
                    let (len, framing, keep) = (head.len, head.framing, head.keep_alive);
                    self.buf.consume(len);
                    return Ok((framing, keep, relay));
                }
                Parse::Invalid(_) => return Err(Broken::Host),
                Parse::Partial => match self.receive(moved).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Err(Broken::Host),
                },
            }
        }
    }

    async fn receive(&mut self, moved: &impl Fn(usize)) -> io::Result<usize> {
        let count = read_some(self.from, self.buf, READ_ROOM).await?;
        moved(count);
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        let written = write_all(self.to, self.outbuf).await;
        written.map_err(|_| Broken::Client)
    }
}
