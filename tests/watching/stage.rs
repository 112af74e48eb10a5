//! A weir with everything on, and some of everything that can happen to it.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::{self, MockConfig, MockHandle};
use serde_json::json;

use crate::redis::Redis;
use crate::support::http::Client;
use crate::support::program::Program;
use crate::support::target::Target;
use crate::support::{TOKEN, queue};

/// Another bot, for which nothing is spent yet: its user id is 303039963636301824.
const OTHER: &str = "Bot MzAzMDM5OTYzNjM2MzAxODI0.GGGGGG.abcdefghijklmnopqrstuvwxyz0123456789AB";

/// A weir that is a node of a cluster, serves the identify queue and a forward proxy that shares its caps
/// by Redis.
pub(crate) struct Stage {
    pub(crate) weir: Program,
    _mock: MockHandle,
    _redis: Redis,
    target: Target,
}

impl Stage {
    pub(crate) fn start() -> Self {
        let mock = mock::start(MockConfig::default()).expect("the mock starts");
        let answer = |target: &str, status: u16| {
            json!({"target": target, "action": {
                "kind": "answer", "status": status, "body": "{\"retry_after\": 0.01}",
                "headers": [["X-RateLimit-Scope", "user"], ["Retry-After", "1"]],
            }})
        };
        let faults = json!({"faults": [answer("/limited", 429), answer("/broken", 500)]});
        mock.patch_settings(&faults).unwrap();
        let redis = Redis::start(&[]);
        let redis_url = format!("unix://{}", redis.socket().display());
        let weir = Program::start(
            &mock,
            &[
                ("WORKERS", "2"),
                ("GATEWAY_QUEUE_PORT", "0"),
                ("CLUSTER_PORT", "0"),
                // Nobody is there, and it goes on looking.
                ("CLUSTER_MEMBERS", "127.0.0.2:9"),
                ("FORWARD_PORT", "0"),
                ("FORWARD_ALLOW", "127.0.0.0/8"),
                ("REDIS_ADDR", &redis_url),
            ],
        );
        Self {
            weir,
            _mock: mock,
            _redis: redis,
            target: Target::echo(),
        }
    }

    /// A round of requests: answered, refused by Discord, absorbed, failed, for two bots.
    pub(crate) fn traffic(&self) {
        let ask = |token: &str, target: &str| {
            let head =
                format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n");
            Client::connect(self.weir.proxy).ask(&head).status
        };
        for token in [TOKEN, OTHER] {
            assert_eq!(ask(token, "/api/v10/users/@me"), 200);
            assert_eq!(ask(token, "/api/v10/limited"), 429);
            assert_eq!(ask(token, "/api/v10/broken"), 500);
        }
        ask(TOKEN, "no target");
        let _shard = queue::ask(self.weir.queue.unwrap(), "/?shard=0");
        let line = format!(
            "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n",
            self.target.addr
        );
        let mut tunnel = Client::connect(self.weir.forward.unwrap());
        tunnel.send(line);
        assert_eq!(tunnel.answer(true).status, 200);
    }

    pub(crate) fn scrape(&self) -> String {
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        Client::connect(self.weir.metrics).ask(request).text()
    }
}

/// What such a weir tells after some traffic. One for all tests: it is only looked at.
pub(crate) fn scrape() -> &'static str {
    static SCRAPE: OnceLock<String> = OnceLock::new();
    SCRAPE.get_or_init(|| {
        let stage = Stage::start();
        stage.traffic();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let text = stage.scrape();
            // It has found Redis, and who asked the queue is known.
            let whole = text.contains("standing=\"shared\"} 1\n")
                && text.contains("weir_identify_waiting{client=");
            if whole {
                return text;
            }
            assert!(Instant::now() < until, "{text}");
            thread::sleep(Duration::from_millis(50));
        }
    })
}
