//! A weir at work: bots that send too much, a channel that is flooded, a token that Discord refuses.

use std::net::TcpStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use loadtest::demo::{self, Bot};
use loadtest::mock::MockHandle;
use weir::status::Status;

use super::support::http::Client;
use super::support::program::{Program, slow_mock};
use super::support::target::Target;

/// What is secret in every token that is sent here.
pub(super) const SECRET: &str = "demo.secret";

/// The channel that is flooded.
pub(super) const FLOODED: u64 = 203_039_963_636_301_999;

/// The first of the bots at work.
pub(super) const BOT: &str = "392827169497284619";

/// The bot whose token Discord refuses.
pub(super) const REFUSED: &str = "203039963636301824";

/// Longest that anything here is waited for.
const SOON: Duration = Duration::from_secs(20);

pub(super) struct Stage {
    pub(super) weir: Program,
    mock: Arc<MockHandle>,
    held: Vec<TcpStream>,
    target: Target,
}

impl Stage {
    /// weir with everything it does beside.
    pub(super) fn start() -> Self {
        let mock = Arc::new(slow_mock(30.0));
        let weir = Program::start(
            &mock,
            &[
                ("WORKERS", "2"),
                ("GATEWAY_QUEUE_PORT", "0"),
                ("FORWARD_PORT", "0"),
                ("FORWARD_ALLOW", "127.0.0.0/8"),
                ("FORWARD_MAX_CONNECTIONS", "3"),
            ],
        );
        Self {
            weir,
            mock,
            held: Vec::new(),
            target: Target::echo(),
        }
    }

    /// Bots that send for so long.
    pub(super) fn work(&self, bots: u64, seconds: u64) -> JoinHandle<()> {
        let (target, mock) = (self.weir.proxy, self.mock.clone());
        thread::spawn(move || {
            let time = Duration::from_secs(seconds);
            // weir may end before the bots do.
            let _ = demo::run(&mock, target, &Bot::first(bots), time, |_, _| ());
        })
    }

    /// So many messages at once for one channel, whose bucket takes five in five seconds.
    pub(super) fn flood(&mut self, messages: usize) {
        let authorization = Bot::first(1)[0].authorization();
        for _ in 0..messages {
            let mut client = Client::connect(self.weir.proxy);
            client.send(format!(
                "POST /api/v10/channels/{FLOODED}/messages HTTP/1.1\r\nHost: x\r\n\
                 Authorization: {authorization}\r\nContent-Type: application/json\r\n\
                 Content-Length: 16\r\n\r\n{{\"content\":\"hi\"}}"
            ));
            self.held.push(client.stream);
        }
    }

    /// A bot with a token that Discord refuses asks until it is locked.
    pub(super) fn be_refused(&self) {
        // The id in front, as in every token.
        let token = format!("Bot MjAzMDM5OTYzNjM2MzAxODI0.dead-token.{SECRET}");
        let ask = || {
            let mut client = Client::connect(self.weir.proxy);
            client.send(format!(
                "GET /api/v10/users/@me HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n"
            ));
            client.answer(false)
        };
        let until = Instant::now() + SOON;
        while ask().header("generated-by-proxy").is_none() {
            assert!(Instant::now() < until, "the token is never locked");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Shards wait to IDENTIFY.
    pub(super) fn identify(&mut self, shards: u32) {
        for shard in 0..shards {
            let mut client = Client::connect(self.weir.queue.unwrap());
            client.send(format!("GET /?shard={shard} HTTP/1.1\r\nHost: x\r\n\r\n"));
            self.held.push(client.stream);
        }
    }

    /// Tunnels through the forward proxy.
    pub(super) fn tunnels(&mut self, count: usize) {
        let target = self.target.addr;
        for _ in 0..count {
            let mut client = Client::connect(self.weir.forward.unwrap());
            client.send(format!(
                "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
            ));
            assert_eq!(client.answer(true).status, 200);
            self.held.push(client.stream);
        }
    }

    /// The document, and its text.
    pub(super) fn status(&self) -> (Status, String) {
        let mut client = Client::connect(self.weir.metrics);
        let answer = client.ask("GET /nirn/status.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let text = answer.text();
        (serde_json::from_str(&text).unwrap(), text)
    }

    /// Reads the document until it says what it should.
    pub(super) fn until(&self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        let until = Instant::now() + SOON;
        loop {
            let (status, text) = self.status();
            if is(&status) {
                return status;
            }
            assert!(Instant::now() < until, "{what}: {text}");
            thread::sleep(Duration::from_millis(250));
        }
    }
}
