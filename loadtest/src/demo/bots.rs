//! Bots without any manners: they send when they please and leave limits to others.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Tally;
use crate::client::{Client, Target};
use crate::mock::route::Method;

/// Messages sent at once to one channel whose bucket holds five.
const BURST: u64 = 8;

/// Time between two bursts: the bucket has just recovered.
const BURST_EVERY: Duration = Duration::from_secs(8);

/// Threads that read all the time; together they want about 60 requests a second of the 50 that a
/// bot may send.
const READERS: u64 = 12;

/// Pause of a reader between two reads.
const READ_EVERY: Duration = Duration::from_millis(200);

/// Threads that react in one channel; its bucket takes four a second.
const REACTORS: u64 = 3;

/// Pause between two reactions of a thread.
const REACT_EVERY: Duration = Duration::from_millis(500);

/// Time between two interactions to answer.
const INTERACT_EVERY: Duration = Duration::from_millis(50);

/// Pause after a connection that failed.
const RETRY: Duration = Duration::from_millis(100);

/// The first bot's user id, and the distance to the next one's.
const FIRST_ID: u64 = 392_827_169_497_284_619;

/// One bot.
#[derive(Clone, Copy, Debug)]
pub struct Bot {
    index: u64,
}

/// What one thread of a bot does.
#[derive(Clone, Copy)]
enum Role {
    /// Sends its message of every burst.
    Burst(u64),
    /// Tells a story, one message after the other, in order.
    Narrate,
    Read(u64),
    React(u64),
    Interact,
}

impl Bot {
    /// The first `n` bots.
    pub fn first(n: u64) -> Vec<Self> {
        (0..n).map(|index| Self { index }).collect()
    }

    /// Its `Authorization`, made up.
    pub fn authorization(&self) -> String {
        format!(
            "Bot {}.demo.secret",
            base64(&(FIRST_ID + self.index * 1000).to_string())
        )
    }

    /// Starts its threads; they end at `end`, or when their last answer has come.
    pub(super) fn start(
        &self,
        target: SocketAddr,
        end: Instant,
        tally: &Arc<Tally>,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let roles = (0..BURST)
            .map(Role::Burst)
            .chain([Role::Narrate, Role::Interact])
            .chain((0..READERS).map(Role::Read))
            .chain((0..REACTORS).map(Role::React));
        roles
            .map(|role| {
                let thread = BotThread {
                    bot: *self,
                    role,
                    authorization: self.authorization(),
                    target: Target::plain(target),
                    tally: Arc::clone(tally),
                    client: None,
                };
                let builder = std::thread::Builder::new().stack_size(256 * 1024);
                builder.spawn(move || thread.run(end))
            })
            .collect()
    }

    /// One of its channels.
    pub(crate) fn channel(&self, n: u64) -> u64 {
        203_039_963_636_301_824 + (self.index * 1000 + n) * 1_000_000
    }
}

struct BotThread {
    bot: Bot,
    role: Role,
    authorization: String,
    target: Target,
    tally: Arc<Tally>,
    client: Option<Client>,
}

impl BotThread {
    fn run(mut self, end: Instant) {
        let mut next = Instant::now();
        let mut turn = 0u64;
        while next < end {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            let pause = self.act(turn);
            turn += 1;
            next = match self.role {
                // All threads of a burst act at the same moments.
                Role::Burst(_) => next + pause,
                _ => Instant::now() + pause,
            };
        }
    }

    /// Sends one request, and tells when the next one follows.
    fn act(&mut self, turn: u64) -> Duration {
        let bot = self.bot;
        let messages = |n| format!("/api/v10/channels/{}/messages", bot.channel(n));
        match self.role {
            Role::Burst(i) => {
                let json = format!(r#"{{"content":"burst {turn}, message {i}"}}"#);
                self.send(Method::Post, &messages(1), &json);
                BURST_EVERY
            }
            Role::Narrate => {
                let json = format!(r#"{{"content":"client:narrator seq:{turn}"}}"#);
                self.send(Method::Post, &messages(2), &json);
                Duration::from_millis(700)
            }
            Role::Read(i) => {
                let channel = bot.channel(10 + (turn * READERS + i) % 50);
                self.send(Method::Get, &format!("/api/v10/channels/{channel}"), "");
                READ_EVERY
            }
            Role::React(i) => {
                let id = 872_712_150_509_047_809 + i * 1000;
                let path = format!("{}/{id}/reactions/%F0%9F%98%8B/@me", messages(3));
                self.send(Method::Put, &path, "");
                REACT_EVERY
            }
            Role::Interact => {
                let id = bot.channel(100) + turn * 1000;
                let path = format!("/api/v10/interactions/{id}/token{turn}/callback");
                self.send(Method::Post, &path, r#"{"type":5}"#);
                INTERACT_EVERY
            }
        }
    }

    fn send(&mut self, method: Method, path: &str, json: &str) {
        let sent = self.tally.sent(method, path, &self.authorization, json);
        let status = self.exchange(method, path, json).ok();
        self.tally.answered(sent, status);
        if status.is_none() {
            self.client = None;
            std::thread::sleep(RETRY);
        }
    }

    fn exchange(&mut self, method: Method, path: &str, json: &str) -> io::Result<u16> {
        let client = match &mut self.client {
            Some(client) => client,
            none => {
                let client = Client::connect(&self.target)?.authorized(&self.authorization);
                none.insert(client)
            }
        };
        let headers: &[_] = if json.is_empty() {
            &[]
        } else {
            &[("Content-Type", "application/json")]
        };
        let response = client.request(method.as_str(), path, headers, json.as_bytes())?;
        if response
            .header("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("close"))
        {
            self.client = None;
        }
        Ok(response.status)
    }
}

pub(crate) fn base64(text: &str) -> String {
    const SET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in text.as_bytes().chunks(3) {
        let bits = three.iter().fold(0u32, |bits, &b| bits << 8 | u32::from(b));
        let bits = bits << (8 * (3 - three.len()));
        for i in 0..=three.len() {
            out.push(char::from(SET[(bits >> (18 - 6 * i)) as usize & 63]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::route::bot_id;

    #[test]
    fn each_bot_has_a_token_with_its_own_id() {
        let ids: Vec<_> = Bot::first(3)
            .iter()
            .map(|bot| bot_id(&bot.authorization()).unwrap())
            .collect();
        assert_eq!(ids, [FIRST_ID, FIRST_ID + 1000, FIRST_ID + 2000]);
    }

    #[test]
    fn no_channel_of_a_bot_is_marked_missing() {
        for bot in Bot::first(10) {
            for n in 0..200 {
                assert!(!matches!(bot.channel(n) % 1000, 403 | 404));
            }
        }
    }
}
