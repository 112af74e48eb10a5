//! One client of a run: it connects, asks, and leaves, well-behaved for the most part.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::fleet::{Expect, Fleet, Request, below};
use super::tally::Tally;
use crate::client::{Client, Response, Target};
use crate::mock::answer::REQUEST_HEADER;
use crate::mock::faults::Rng;

/// What all clients share.
#[derive(Debug)]
pub(super) struct Stage {
    pub proxy: SocketAddr,
    pub fleet: Fleet,
    pub tally: Tally,
    pub over: AtomicBool,
}

/// One client.
pub(super) struct Actor {
    stage: Arc<Stage>,
    rng: Rng,
    /// What it does at present.
    doing: &'static str,
}

impl Actor {
    pub(super) fn new(stage: Arc<Stage>, seed: u64) -> Self {
        Self {
            stage,
            rng: Rng::new(seed),
            doing: "",
        }
    }

    /// Lives one connection after the other until the run is over.
    pub(super) fn run(mut self) {
        while !self.stage.over.load(Ordering::Relaxed) {
            let met = match below(&mut self.rng, 100) {
                0..62 => self.series(),
                62..72 => self.pipeline(),
                72..76 => self.half_head(),
                76..80 => self.half_body(),
                80..85 => self.leaves_waiting(),
                85..89 => self.leaves_in_answer(),
                89..93 => self.half_close(),
                93..95 => self.reads_slowly(),
                _ => self.says_nothing(),
            };
            if let Err(error) = met {
                self.stage.tally.wrong(format!("connecting: {error}"));
                // Never a busy loop, whatever is wrong.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    fn connect(&self) -> io::Result<Client> {
        let client = Client::connect(&Target::plain(self.stage.proxy))?;
        client.socket().set_read_timeout(Some(super::PATIENCE))?;
        Ok(client)
    }

    fn any(&mut self) -> Request {
        self.stage.tally.pace();
        self.stage.fleet.any(&mut self.rng)
    }

    /// Requests one after the other on a kept-alive connection.
    fn series(&mut self) -> io::Result<()> {
        self.doing = "series";
        let mut client = self.connect()?;
        for _ in 0..=below(&mut self.rng, 30) {
            let request = self.any();
            if !self.asks(&mut client, &request) || self.stage.over.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(())
    }

    /// Several requests at once, answers in the same order.
    fn pipeline(&mut self) -> io::Result<()> {
        self.doing = "pipeline";
        let mut client = self.connect()?;
        let count = 2 + below(&mut self.rng, 6);
        let requests: Vec<Request> = (0..count)
            .map(|_| {
                self.stage.tally.pace();
                // Small bodies only: weir reads no further ahead than a few buffers.
                self.stage.fleet.callback(&mut self.rng)
            })
            .collect();
        let bytes: Vec<u8> = requests.iter().flat_map(Request::bytes).collect();
        let sent = Instant::now();
        requests.iter().for_each(|_| self.stage.tally.sent());
        if client.send_raw(&bytes).is_err() {
            requests
                .iter()
                .for_each(|_| self.stage.tally.left("refused"));
            return Ok(());
        }
        for (i, request) in requests.iter().enumerate() {
            if !self.hears(&mut client, request, sent) {
                // weir closes behind an answer that says so; what is left was never taken.
                for _ in &requests[i + 1..] {
                    self.stage.tally.left("behind a close");
                }
                break;
            }
        }
        Ok(())
    }

    fn half_head(&mut self) -> io::Result<()> {
        self.doing = "half head";
        let mut client = self.connect()?;
        let request = self.any();
        let head = request.head();
        let part = below(&mut self.rng, head.len() as u64 - 2) as usize;
        self.stage.tally.sent();
        // weir may be quicker to close than this is to write.
        let _ = client.send_raw(&head.as_bytes()[..part]);
        self.leaves(client, "half a head");
        Ok(())
    }

    fn half_body(&mut self) -> io::Result<()> {
        self.doing = "half body";
        let mut client = self.connect()?;
        self.stage.tally.pace();
        let request = self.stage.fleet.upload(&mut self.rng);
        let bytes = request.bytes();
        let head = request.head().len();
        let part = head + below(&mut self.rng, (bytes.len() - head) as u64) as usize;
        self.stage.tally.sent();
        let _ = client.send_raw(&bytes[..part.min(bytes.len() - 1)]);
        std::thread::sleep(Duration::from_millis(below(&mut self.rng, 50)));
        self.leaves(client, "half a body");
        Ok(())
    }

    /// Sends a request and leaves before its answer, perhaps while it waits for a limit.
    fn leaves_waiting(&mut self) -> io::Result<()> {
        self.doing = "leaves waiting";
        let mut client = self.connect()?;
        let request = self.any();
        self.stage.tally.sent();
        let _ = client.send_raw(&request.bytes());
        std::thread::sleep(Duration::from_millis(below(&mut self.rng, 300)));
        self.leaves(client, "before the answer");
        Ok(())
    }

    fn leaves_in_answer(&mut self) -> io::Result<()> {
        self.doing = "leaves in answer";
        let mut client = self.connect()?;
        self.stage.tally.pace();
        let request = self.stage.fleet.download(&mut self.rng);
        self.stage.tally.sent();
        let _ = client.send_raw(&request.bytes());
        // The head, and whatever comes along.
        let _ = client.response_head();
        self.leaves(client, "within the answer");
        Ok(())
    }

    /// Says that nothing more will come, and is answered all the same.
    fn half_close(&mut self) -> io::Result<()> {
        self.doing = "half close";
        let mut client = self.connect()?;
        self.stage.tally.pace();
        // A small one: a FIN that comes with the request is a half-close, one that comes later or
        // behind an upload that waits to be read is a client that leaves.
        let request = self.stage.fleet.callback(&mut self.rng);
        let sent = Instant::now();
        self.stage.tally.sent();
        // One segment, whatever this thread is kept from in between.
        socket2::SockRef::from(client.socket()).set_tcp_cork(true)?;
        let _ = client.send_raw(&request.bytes());
        let _ = client.socket().shutdown(Shutdown::Write);
        self.hears(&mut client, &request, sent);
        Ok(())
    }

    fn reads_slowly(&mut self) -> io::Result<()> {
        self.doing = "reads slowly";
        let mut client = self.connect()?;
        self.stage.tally.pace();
        let request = self.stage.fleet.download(&mut self.rng);
        let sent = Instant::now();
        self.stage.tally.sent();
        if client.send_raw(&request.bytes()).is_err() {
            self.stage.tally.left("refused");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(below(&mut self.rng, 1500)));
        self.hears(&mut client, &request, sent);
        Ok(())
    }

    fn says_nothing(&mut self) -> io::Result<()> {
        self.doing = "says nothing";
        let client = self.connect()?;
        std::thread::sleep(Duration::from_millis(below(&mut self.rng, 2000)));
        drop(client);
        Ok(())
    }

    /// Ends a connection, in order or by a reset.
    fn leaves(&mut self, client: Client, how: &'static str) {
        if below(&mut self.rng, 2) == 0 {
            let _ = socket2::SockRef::from(client.socket()).set_linger(Some(Duration::ZERO));
        }
        drop(client);
        self.stage.tally.left(how);
    }

    /// Sends a request and waits for its answer; false if the connection has ended with it.
    fn asks(&self, client: &mut Client, request: &Request) -> bool {
        let sent = Instant::now();
        self.stage.tally.sent();
        // An answer may come before the body's end, and weir takes no more then.
        let _ = client.send_raw(&request.bytes());
        self.hears(client, request, sent)
    }

    /// Waits for the answer; false if the connection ends with it.
    fn hears(&self, client: &mut Client, request: &Request, sent: Instant) -> bool {
        hears(&self.stage.tally, self.doing, client, request, sent)
            .is_some_and(|(_, goes_on)| goes_on)
    }
}

/// Waits for the answer to a request: its status if it was the upstream's, and whether the
/// connection goes on. `None` when there was none, or not all of it.
pub(super) fn hears(
    tally: &Tally,
    doing: &str,
    client: &mut Client,
    request: &Request,
    sent: Instant,
) -> Option<(Option<u16>, bool)> {
    let told = |what: &str| {
        format!(
            "{what} ({doing}): {} {} after {:.3} s",
            request.method,
            request.target,
            sent.elapsed().as_secs_f64()
        )
    };
    let head = match client.response_head() {
        Ok(head) => head,
        Err(error) => {
            tally.wrong(match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => told("stuck"),
                ErrorKind::InvalidData => told("no HTTP"),
                _ => told(&format!("no answer ({error})")),
            });
            tally.left("without an answer");
            return None;
        }
    };
    let own = head.header("generated-by-proxy") == Some("true");
    let named = head.header(REQUEST_HEADER).and_then(|n| n.parse().ok());
    if !own && named != Some(request.number) {
        tally.wrong(told(&format!("the answer to {named:?} was given")));
    }
    let mut body = Body::new(request.expect);
    let read = client.response_body(request.method, &head, &mut |bytes| body.take(bytes));
    let took = sent.elapsed();
    tally.answered(head.status, own, took);
    match read {
        Ok(()) if !own && head.status == 200 && !body.is_right() => {
            tally.wrong(told(&format!("wrong body ({} bytes)", body.bytes)));
        }
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            tally.wrong(told("stuck in its body"));
            return None;
        }
        Err(_) => {
            tally.broken();
            return None;
        }
    }
    if took > super::PATIENCE {
        tally.wrong(told("later than its deadlines allow"));
    }
    Some(((!own).then_some(head.status), goes_on(&head)))
}

fn goes_on(head: &Response) -> bool {
    !head
        .header("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// A body as it comes, checked byte by byte.
struct Body {
    expect: Expect,
    bytes: u64,
    is_pattern: bool,
    text: Vec<u8>,
}

impl Body {
    fn new(expect: Expect) -> Self {
        Self {
            expect,
            bytes: 0,
            is_pattern: true,
            text: Vec::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if matches!(self.expect, Expect::Pattern(_)) {
            let period = crate::mock::PATTERN_PERIOD as u64;
            let from = self.bytes;
            let mut numbered = bytes.iter().zip(from..);
            self.is_pattern &= numbered.all(|(&byte, at)| u64::from(byte) == at % period);
        } else {
            self.text.extend_from_slice(bytes);
        }
        self.bytes += bytes.len() as u64;
    }

    fn is_right(&self) -> bool {
        match self.expect {
            Expect::Pattern(bytes) => self.is_pattern && self.bytes == bytes,
            Expect::Received(bytes) => {
                let told: serde_json::Value =
                    serde_json::from_slice(&self.text).unwrap_or_default();
                told["body_bytes"].as_u64() == Some(bytes)
            }
            Expect::Served | Expect::Any => true,
        }
    }
}
