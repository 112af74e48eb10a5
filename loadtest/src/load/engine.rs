//! The loop that sends and receives.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::event::{Timespec, epoll::EventData};

use super::report::LoadReport;
use super::stream::Stream;
use super::{LoadConfig, Moment, Target};
use crate::mock::http::{BodyDecoder, Framing};

/// How long answers are awaited after the last request was sent.
const GRACE: Duration = Duration::from_secs(5);

/// The longest sleep, so that the end of the run is noticed.
const NAP: Duration = Duration::from_millis(50);

/// How long a lost connection is left alone before it is made again.
const RECONNECT: Duration = Duration::from_millis(20);

/// Events taken from the kernel at once.
const EVENTS: usize = 256;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

pub(super) struct Engine<'a> {
    config: &'a LoadConfig,
    requests: Vec<Vec<u8>>,
    next_request: usize,
    epoll: OwnedFd,
    conns: Vec<Conn>,
    idle: VecDeque<usize>,
    /// Connections that there are not at the moment.
    lost: usize,
    scratch: Vec<u8>,
    report: LoadReport,
    begin: Instant,
    measure_from: Instant,
    end: Instant,
    /// Open loop: requests whose time has been handed out.
    tickets: u64,
}

struct Conn {
    stream: Option<Stream>,
    /// When it was lost.
    lost: Instant,
    phase: Phase,
    out: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    /// From when the present request counts.
    since: Instant,
}

#[derive(Clone, Copy)]
enum Phase {
    Idle,
    Head,
    Body {
        status: u16,
        keep: bool,
        decoder: BodyDecoder,
    },
}

impl<'a> Engine<'a> {
    pub(super) fn connect(config: &'a LoadConfig) -> io::Result<Self> {
        let begin = Instant::now();
        let mut engine = Self {
            config,
            requests: config.plan.bytes(&config.target),
            next_request: 0,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            conns: Vec::new(),
            idle: VecDeque::new(),
            lost: 0,
            scratch: vec![0; READ_BYTES],
            report: LoadReport::new(),
            begin,
            measure_from: begin,
            end: begin,
            tickets: 0,
        };
        for i in 0..config.connections.max(1) {
            engine.conns.push(Conn {
                stream: None,
                lost: begin,
                phase: Phase::Idle,
                out: Vec::new(),
                sent: 0,
                input: Vec::new(),
                since: begin,
            });
            engine.lost += 1;
            engine.open(i, &config.target)?;
        }
        Ok(engine)
    }

    /// Runs to the end; calls `at` when the measured time begins and when it ends.
    pub(super) fn run(mut self, mut at: impl FnMut(Moment)) -> io::Result<LoadReport> {
        let mut moments = [Moment::Begin, Moment::End].into_iter().peekable();
        self.begin = Instant::now();
        self.measure_from = self.begin + self.config.warmup;
        self.end = self.measure_from + self.config.duration;
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let now = Instant::now();
            while let Some(moment) = moments.next_if(|moment| match moment {
                Moment::Begin => now >= self.measure_from,
                Moment::End => now >= self.end,
            }) {
                at(moment);
            }
            if now >= self.end && (self.busy() == 0 || now >= self.end + GRACE) {
                break;
            }
            let wait = self.dispatch(now);
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: wait.subsec_nanos().into(),
            };
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, spare, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let i = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                self.progress(i);
            }
            self.repair();
        }
        self.report.errors += self.busy() as u64;
        self.report.elapsed = self.config.duration;
        Ok(self.report)
    }

    fn busy(&self) -> usize {
        self.conns
            .iter()
            .filter(|c| !matches!(c.phase, Phase::Idle))
            .count()
    }

    /// Sends what is due and tells how long there is nothing to send.
    fn dispatch(&mut self, now: Instant) -> Duration {
        if now >= self.end {
            return NAP;
        }
        let Some(rate) = self.config.rate else {
            while let Some(i) = self.free() {
                self.start(i, now);
            }
            return NAP;
        };
        loop {
            let due = self.begin + Duration::from_secs_f64(self.tickets as f64 / rate);
            if due > now {
                return (due - now).min(NAP);
            }
            let Some(i) = self.free() else { return NAP };
            self.tickets += 1;
            // A connection was free only later than it was needed.
            let late = now.duration_since(due) > Duration::from_millis(1);
            self.report.delayed += u64::from(late && due >= self.measure_from);
            self.start(i, due);
        }
    }

    /// The connection for the next request, if there may be one now.
    fn free(&mut self) -> Option<usize> {
        let Some(most) = self.config.under_way else {
            return self.idle.pop_back();
        };
        let under_way = self.conns.len() - self.lost - self.idle.len();
        (under_way < most).then(|| self.idle.pop_front()).flatten()
    }

    fn start(&mut self, i: usize, since: Instant) {
        let request = &self.requests[self.next_request];
        self.next_request = (self.next_request + 1) % self.requests.len();
        let conn = &mut self.conns[i];
        conn.out.clear();
        conn.out.extend_from_slice(request);
        (conn.sent, conn.since, conn.phase) = (0, since, Phase::Head);
        // Only sent: to read now would be a system call that finds nothing.
        if conn.send().is_err() {
            self.fail(i);
        }
    }

    /// Moves a connection as far as it goes.
    fn progress(&mut self, i: usize) {
        let Some(conn) = self.conns.get_mut(i) else {
            return;
        };
        if conn.stream.is_none() {
            return;
        }
        match conn.advance(&mut self.scratch, &mut self.report.bytes_in) {
            Ok(None) => {}
            Ok(Some((status, keep))) => {
                let now = Instant::now();
                if conn.since >= self.measure_from && now <= self.end + GRACE {
                    self.report.answered(status, now - conn.since);
                }
                conn.phase = Phase::Idle;
                if keep {
                    self.idle.push_back(i);
                } else {
                    self.lose(i);
                }
            }
            Err(_) => self.fail(i),
        }
    }

    /// Gives a connection up, and the request that was under way on it.
    fn fail(&mut self, i: usize) {
        let conn = &self.conns[i];
        let counts = !matches!(conn.phase, Phase::Idle) && conn.since >= self.measure_from;
        self.report.errors += u64::from(counts);
        self.lose(i);
    }

    fn lose(&mut self, i: usize) {
        let conn = &mut self.conns[i];
        // Closing the descriptor takes it out of the epoll set, too.
        self.lost += usize::from(conn.stream.take().is_some());
        conn.lost = Instant::now();
        conn.phase = Phase::Idle;
        conn.input.clear();
        self.idle.retain(|&idle| idle != i);
    }

    /// Makes lost connections again.
    fn repair(&mut self) {
        if self.lost == 0 {
            return;
        }
        for i in 0..self.conns.len() {
            if self.conns[i].stream.is_some() || self.conns[i].lost.elapsed() < RECONNECT {
                continue;
            }
            match self.open(i, &self.config.target) {
                Ok(()) => self.report.reconnects += 1,
                Err(_) => self.conns[i].lost = Instant::now(),
            }
        }
    }

    fn open(&mut self, i: usize, target: &Target) -> io::Result<()> {
        let stream = Stream::connect(target)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &stream, EventData::new_u64(i as u64), flags)?;
        self.conns[i].stream = Some(stream);
        self.idle.push_back(i);
        self.lost -= 1;
        Ok(())
    }
}

impl Conn {
    /// Writes and reads until nothing moves. Returns a finished answer's status, and whether the
    /// connection stays.
    fn advance(
        &mut self,
        scratch: &mut [u8],
        bytes_in: &mut u64,
    ) -> io::Result<Option<(u16, bool)>> {
        self.send()?;
        loop {
            let Some(stream) = &mut self.stream else {
                return Ok(None);
            };
            let Some(n) = stream.read(scratch)? else {
                return Ok(None);
            };
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            *bytes_in += n as u64;
            if let Some(done) = self.receive(&scratch[..n])? {
                return Ok(Some(done));
            }
        }
    }

    /// Writes what the socket takes.
    fn send(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        while self.sent < self.out.len() {
            match stream.write(&self.out[self.sent..])? {
                Some(n) => self.sent += n,
                None => break,
            }
        }
        stream.is_clogged().map(drop)
    }

    fn receive(&mut self, mut data: &[u8]) -> io::Result<Option<(u16, bool)>> {
        loop {
            match &mut self.phase {
                Phase::Idle => return Err(io::ErrorKind::InvalidData.into()),
                Phase::Head => {
                    self.input.extend_from_slice(data);
                    let Some(Head {
                        bytes: n,
                        status,
                        framing,
                        keep,
                    }) = parse_head(&self.input)?
                    else {
                        return Ok(None);
                    };
                    let rest = self.input.split_off(n);
                    self.input.clear();
                    if (100..200).contains(&status) {
                        self.input = rest;
                        data = &[];
                        continue;
                    }
                    let mut decoder = BodyDecoder::new(framing);
                    decoder.feed(&rest, |_| ()).map_err(io::Error::other)?;
                    if decoder.is_done() {
                        return Ok(Some((status, keep)));
                    }
                    self.phase = Phase::Body {
                        status,
                        keep,
                        decoder,
                    };
                    return Ok(None);
                }
                Phase::Body {
                    status,
                    keep,
                    decoder,
                } => {
                    decoder.feed(data, |_| ()).map_err(io::Error::other)?;
                    return Ok(decoder.is_done().then_some((*status, *keep)));
                }
            }
        }
    }
}

/// What an answer's head says.
struct Head {
    bytes: usize,
    status: u16,
    framing: Framing,
    keep: bool,
}

/// Reads an answer's head; `None` while it is incomplete.
fn parse_head(input: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(n) = response.parse(input).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or(0);
    let bodiless = matches!(status, 100..=199 | 204 | 304);
    let (mut framing, mut keep) = (Framing::Length(0), true);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("connection") {
            keep = !header.value.eq_ignore_ascii_case(b"close");
        } else if !bodiless {
            if header.name.eq_ignore_ascii_case("content-length") {
                let length = std::str::from_utf8(header.value)
                    .ok()
                    .and_then(|v| v.parse().ok());
                framing = Framing::Length(length.ok_or(io::ErrorKind::InvalidData)?);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                framing = Framing::Chunked;
            }
        }
    }
    Ok(Some(Head {
        bytes: n,
        status,
        framing,
        keep,
    }))
}
