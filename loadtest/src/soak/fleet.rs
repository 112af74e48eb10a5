//! Whose requests a run sends: bots that come and go, dead tokens, webhooks, interactions.
//!
//! Nothing here limits itself. Bots and webhooks live in slots; a new generation in a slot is a new
//! token, while the old one's last requests are still under way. Bot user ids are few, so that the
//! label cardinality of weir's metrics has an end within minutes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::mock::faults::Rng;
use crate::mock::route::REQUEST_PARAM;

/// Bots that live at a time.
const BOTS: usize = 12;

/// Channels of each.
const CHANNELS: u64 = 8;

/// Webhooks that live at a time.
const WEBHOOKS: usize = 48;

/// Generations after which a slot's user id comes again, under another token.
const IDS_PER_SLOT: u64 = 4;

/// Bearer tokens in use: three times what weir keeps track of, so that old ones are forgotten.
const BEARERS: u64 = 3_000;

/// The first of all ids; divisible by 1,000,000, so that no id made from it is one that the mock
/// calls unknown or forbidden by its ending.
const FIRST_ID: u64 = 392_827_169_497_000_000;

/// The last segment of the route whose requests are watched for their order.
pub(super) const ORDERED: &str = "crosspost";

/// Largest body that is uploaded.
const UPLOAD_MAX: f64 = 300_000.0;

/// Largest body that is downloaded.
pub(super) const DOWNLOAD_MAX: f64 = 400_000.0;

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// What names it: its answer must say it again.
    pub number: u64,
    pub method: &'static str,
    pub target: String,
    pub authorization: String,
    pub body: Vec<u8>,
    /// Whether the body goes in chunks.
    pub chunked: bool,
    /// What its answer's body must be.
    pub expect: Expect,
}

/// What the upstream answers to a request that it serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expect {
    /// A 2xx.
    Served,
    /// A download of so many bytes of the mock's pattern.
    Pattern(u64),
    /// A report of so many received bytes.
    Received(u64),
    /// Nothing that can be foretold: a token or an id that is dead.
    Any,
}

impl Request {
    /// Whether it may be sent twice.
    pub(super) fn is_safe(&self) -> bool {
        self.method == "GET"
    }

    /// Its head, framed for its body.
    pub(super) fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: weir\r\n", self.method, self.target);
        if !self.authorization.is_empty() {
            head.push_str(&format!("Authorization: {}\r\n", self.authorization));
        }
        if self.chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if !self.is_safe() {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("Content-Type: application/json\r\n\r\n");
        head
    }

    /// All of it as it goes over the wire.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head().into_bytes();
        if !self.chunked {
            bytes.extend_from_slice(&self.body);
            return bytes;
        }
        for chunk in self.body.chunks(7_000) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }
}

/// All who send.
#[derive(Debug)]
pub(super) struct Fleet {
    bots: [AtomicU64; BOTS],
    webhooks: [AtomicU64; WEBHOOKS],
    requests: AtomicU64,
    lanes: AtomicU64,
}

impl Fleet {
    pub(super) fn new() -> Self {
        Self {
            bots: std::array::from_fn(|_| AtomicU64::new(0)),
            webhooks: std::array::from_fn(|_| AtomicU64::new(0)),
            requests: AtomicU64::new(0),
            lanes: AtomicU64::new(0),
        }
    }

    /// A bot or a webhook leaves, and another takes its place.
    pub(super) fn churn(&self, rng: &mut Rng) {
        let slots: &[AtomicU64] = if below(rng, 2) == 0 {
            &self.bots
        } else {
            &self.webhooks
        };
        let slot = below(rng, slots.len() as u64) as usize;
        slots[slot].fetch_add(1, Ordering::Relaxed);
    }

    /// Requests made so far.
    pub(super) fn made(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Tokens that have come so far: bots and webhooks.
    pub(super) fn tokens(&self) -> u64 {
        let all = self.bots.iter().chain(&self.webhooks);
        all.map(|slot| 1 + slot.load(Ordering::Relaxed)).sum()
    }

    /// A request of any kind.
    pub(super) fn any(&self, rng: &mut Rng) -> Request {
        match below(rng, 100) {
            0..44 => self.callback(rng),
            44..52 => self.webhook(rng),
            52..84 => self.bot(rng),
            84..90 => self.upload(rng),
            90..94 => self.download(rng),
            94..96 => self.bearer(rng),
            96..97 => self.unknown_webhook(rng),
            97..98 => self.dead(rng),
            _ => self.follow_up(rng),
        }
    }

    /// The answer to an interaction, each with a token of its own.
    pub(super) fn callback(&self, rng: &mut Rng) -> Request {
        let id = FIRST_ID + below(rng, 1 << 30) * 1000;
        let target = format!("/api/v10/interactions/{id}/aW50ZXJhY3Rpb246{id}/callback?");
        self.request("POST", target, "", br#"{"type":5}"#.to_vec())
    }

    fn follow_up(&self, rng: &mut Rng) -> Request {
        let id = FIRST_ID + below(rng, 1 << 12) * 1000;
        let target = format!("/api/v10/webhooks/{FIRST_ID}/aW50ZXJhY3Rpb246{id}?");
        self.request("POST", target, "", br#"{"content":"follow-up"}"#.to_vec())
    }

    fn webhook(&self, rng: &mut Rng) -> Request {
        let slot = below(rng, WEBHOOKS as u64);
        self.webhook_of(slot)
    }

    fn webhook_of(&self, slot: u64) -> Request {
        let generation = self.webhooks[slot as usize].load(Ordering::Relaxed);
        let id = FIRST_ID + slot * 1000;
        let target = format!("/api/v10/webhooks/{id}/hook-{generation}?wait=true&");
        self.request("POST", target, "", br#"{"content":"executed"}"#.to_vec())
    }

    fn unknown_webhook(&self, rng: &mut Rng) -> Request {
        let id = FIRST_ID + 404 + below(rng, 64) * 1000;
        let target = format!("/api/v10/webhooks/{id}/gone?");
        let request = self.request("POST", target, "", br#"{"content":"lost"}"#.to_vec());
        Request {
            expect: Expect::Any,
            ..request
        }
    }

    fn dead(&self, rng: &mut Rng) -> Request {
        let token = format!("Bot dead-token.{}", below(rng, 40));
        let target = format!("/api/v10/channels/{FIRST_ID}?");
        let request = self.request("GET", target, &token, Vec::new());
        Request {
            expect: Expect::Any,
            ..request
        }
    }

    fn bearer(&self, rng: &mut Rng) -> Request {
        let token = format!("Bearer soak-{}", below(rng, BEARERS));
        self.request("GET", "/api/v10/users/@me?".to_owned(), &token, Vec::new())
    }

    fn bot(&self, rng: &mut Rng) -> Request {
        let (token, id) = self.bot_of(below(rng, BOTS as u64));
        let channel = id + below(rng, CHANNELS) * 1000;
        let messages = format!("/api/v10/channels/{channel}/messages");
        let message = FIRST_ID + below(rng, 100) * 1000;
        let json = br#"{"content":"a message"}"#.to_vec();
        match below(rng, 10) {
            0..3 => self.request("POST", format!("{messages}?"), &token, json),
            3..5 => self.request("GET", format!("{messages}?limit=5&"), &token, Vec::new()),
            5 => self.request("PATCH", format!("{messages}/{message}?"), &token, json),
            6 => {
                let target = format!("{messages}/{message}/reactions/%F0%9F%98%8B/@me?");
                self.request("PUT", target, &token, Vec::new())
            }
            7 => {
                let target = format!("/api/v10/guilds/{channel}/members/{message}?");
                self.request("GET", target, &token, Vec::new())
            }
            _ => {
                let target = format!("/api/v10/channels/{channel}?");
                self.request("GET", target, &token, Vec::new())
            }
        }
    }

    /// `count` requests of one lane, to be sent one after the other, on a route that nobody else uses.
    pub(super) fn ordered(&self, rng: &mut Rng, count: u64) -> Vec<Request> {
        let (token, id) = self.bot_of(below(rng, BOTS as u64));
        let channel = id + below(rng, CHANNELS) * 1000;
        let lane = self.lanes.fetch_add(1, Ordering::Relaxed);
        let nth = |seq| {
            let messages = format!("/api/v10/channels/{channel}/messages/{FIRST_ID}");
            let target = format!("{messages}/{ORDERED}?client=lane{lane}&seq={seq}&");
            self.request("POST", target, &token, b"{}".to_vec())
        };
        (0..count).map(nth).collect()
    }

    pub(super) fn upload(&self, rng: &mut Rng) -> Request {
        let (token, _) = self.bot_of(below(rng, BOTS as u64));
        // Small ones are many, large ones few.
        let bytes = (rng.fraction().powi(4) * UPLOAD_MAX) as usize;
        let body = vec![b'x'; bytes];
        let request = self.request("POST", "/api/v10/echo?".to_owned(), &token, body);
        Request {
            chunked: below(rng, 2) == 0,
            expect: Expect::Received(bytes as u64),
            ..request
        }
    }

    pub(super) fn download(&self, rng: &mut Rng) -> Request {
        let (token, id) = self.bot_of(below(rng, BOTS as u64));
        let bytes = (rng.fraction().powi(2) * DOWNLOAD_MAX) as u64;
        let chunked = below(rng, 2);
        let target =
            format!("/api/v10/channels/{id}/attachments-test?bytes={bytes}&chunked={chunked}&");
        Request {
            expect: Expect::Pattern(bytes),
            ..self.request("GET", target, &token, Vec::new())
        }
    }

    /// One request to each lane that faults may have hurt: what must be answered once they are over.
    pub(super) fn roll_call(&self) -> Vec<Request> {
        let mut all = Vec::new();
        for slot in 0..BOTS as u64 {
            let (token, id) = self.bot_of(slot);
            for channel in (0..CHANNELS).map(|n| id + n * 1000) {
                let json = br#"{"content":"here"}"#.to_vec();
                let target = format!("/api/v10/channels/{channel}/messages?");
                all.push(self.request("POST", target, &token, json));
                let target = format!("/api/v10/channels/{channel}?");
                all.push(self.request("GET", target, &token, Vec::new()));
            }
        }
        all.extend((0..WEBHOOKS as u64).map(|slot| self.webhook_of(slot)));
        all
    }

    /// Token and user id of the bot in a slot.
    fn bot_of(&self, slot: u64) -> (String, u64) {
        let generation = self.bots[slot as usize].load(Ordering::Relaxed);
        let id = FIRST_ID + (slot * IDS_PER_SLOT + generation % IDS_PER_SLOT) * 1_000_000;
        let name = crate::demo::base64(&id.to_string());
        (format!("Bot {name}.soak.generation-{generation}"), id)
    }

    /// `target` ends where one more parameter can stand.
    fn request(
        &self,
        method: &'static str,
        mut target: String,
        authorization: &str,
        body: Vec<u8>,
    ) -> Request {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        target.push_str(&format!("{REQUEST_PARAM}={number}"));
        Request {
            number,
            method,
            target,
            authorization: authorization.to_owned(),
            body,
            chunked: false,
            expect: Expect::Served,
        }
    }
}

/// A number below `end`.
pub(super) fn below(rng: &mut Rng, end: u64) -> u64 {
    (rng.fraction() * end as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::route::bot_id;

    #[test]
    fn no_live_id_is_one_that_the_mock_calls_unknown() {
        let (fleet, mut rng) = (Fleet::new(), Rng::new(1));
        for _ in 0..5_000 {
            fleet.churn(&mut rng);
            let request = fleet.any(&mut rng);
            let mut parts = request.target.split(['/', '?', '&', '=']);
            let missing = parts
                .any(|part| part.len() >= 15 && (part.ends_with("404") || part.ends_with("403")));
            assert!(!missing || request.expect == Expect::Any, "{request:?}");
        }
    }

    #[test]
    fn a_new_generation_is_a_new_token_of_a_user_that_may_have_been_there() {
        let fleet = Fleet::new();
        let first = fleet.bot_of(0);
        fleet.bots[0].store(IDS_PER_SLOT, Ordering::Relaxed);
        let again = fleet.bot_of(0);
        assert_eq!(first.1, again.1);
        assert_ne!(first.0, again.0);
        assert_eq!(bot_id(&again.0), Some(again.1));
        assert_eq!(fleet.tokens(), (BOTS + WEBHOOKS) as u64 + IDS_PER_SLOT);
    }

    #[test]
    fn requests_are_framed_as_they_say() {
        let (fleet, mut rng) = (Fleet::new(), Rng::new(5));
        let chunked = Request {
            body: b"12345".to_vec(),
            chunked: true,
            ..fleet.callback(&mut rng)
        };
        let text = String::from_utf8(chunked.bytes()).unwrap();
        assert!(text.ends_with("\r\n\r\n5\r\n12345\r\n0\r\n\r\n"), "{text}");
        assert!(!text.contains("Content-Length"));
        assert!(text.contains(&format!("request={} HTTP/1.1", chunked.number)));
    }
}
