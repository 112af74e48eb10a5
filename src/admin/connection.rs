//! One connection to the metrics port: a request, its answer, the end.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use super::answer::Answer;
use super::gate::Gate;
use super::pages::{self, Asked, Page};
use super::seats::Seat;
use crate::clock::{self, Instant};
use crate::http1::{Framing, Method, Parse, RequestHead, parse_request};
use crate::process::Process;

/// How long a request may take to arrive and its answer to leave.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Largest request head here.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Answers one request and closes.
pub(super) fn serve(seat: &Seat, from: IpAddr, process: &Process, gate: &Gate) -> io::Result<()> {
    let until = clock::now() + TIMEOUT;
    let stream = seat.stream();
    let mut bytes = Vec::new();
    // Asked once, since it may count what it hears.
    let mut found = None;
    loop {
        let more = read(stream, until, &mut bytes)?;
        match parse_request(&bytes) {
            Parse::Complete(request) => {
                let (body, wanted) =
                    match judged(&mut found, || pages::find(&request, from, process, gate))
                        .and_then(|page| {
                            let length = body_bytes(&request, page.body_bytes_max)?;
                            Ok((page, length))
                        }) {
                        Err(refusal) => return write(stream, until, &request, &refusal),
                        Ok((page, length)) => {
                            let body = &bytes[request.len..];
                            let Some(body) = body.get(..length) else {
                                if more {
                                    continue;
                                }
                                // It broke off: half a number is another one (RFC 9112 8).
                                return Ok(());
                            };
                            (body, page)
                        }
                    };
                seat.heard();
                let asked = Asked::new(&request, body, from, process);
                let answer = (wanted.answer)(&asked);
                return write(stream, until, &request, &answer);
            }
            Parse::Invalid(bad) => {
                let answer = Answer::error(bad.status(), bad.message());
                return write_all(stream, until, &answer.encode(false));
            }
            Parse::Partial if !more || bytes.len() > HEAD_BYTES_MAX => return Ok(()),
            Parse::Partial => {}
        }
    }
}

/// What was found when it was looked for first.
fn judged(
    found: &mut Option<&'static Page>,
    find: impl FnOnce() -> Result<&'static Page, Answer>,
) -> Result<&'static Page, Answer> {
    if let Some(page) = *found {
        return Ok(page);
    }
    let page = find()?;
    *found = Some(page);
    Ok(page)
}

/// The length of a request's body, if it is one that its page reads.
fn body_bytes(request: &RequestHead<'_>, most: usize) -> Result<usize, Answer> {
    match request.framing {
        Framing::None => Ok(0),
        Framing::Length(length) => usize::try_from(length)
            .ok()
            .filter(|&length| length <= most)
            .ok_or_else(|| Answer::error(413, "the body is too large")),
        Framing::Chunked | Framing::UntilClose => {
            Err(Answer::error(411, "a body here needs a Content-Length"))
        }
    }
}

/// Reads what there is; false at the end.
fn read(mut stream: &TcpStream, until: Instant, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 1024];
    stream.set_read_timeout(Some(left(until)?))?;
    let count = stream.read(&mut chunk)?;
    bytes.extend_from_slice(&chunk[..count]);
    Ok(count > 0)
}

fn write(
    stream: &TcpStream,
    until: Instant,
    request: &RequestHead<'_>,
    answer: &Answer,
) -> io::Result<()> {
    write_all(
        stream,
        until,
        &answer.encode(request.method == Method::Head),
    )
}

/// Writes all of it until then, however slowly it is read.
fn write_all(mut stream: &TcpStream, until: Instant, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        match stream.write(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
    }
    Ok(())
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(clock::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}
