//! What grows, over which values, and who is measured at each.

use crate::compare::host::Cores;
use crate::compare::peers::Peer;
use crate::compare::scenario::CONNECTIONS;
use crate::compare::traffic::{Fleet, Orders};
use crate::load::{Plan, Recipe};

/// What grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Series {
    /// Requests a second, in percent of what weir answers at most.
    Load,
    /// Client connections.
    Connections,
    /// Buckets that are tracked.
    Buckets,
    /// Bytes of an answer's body.
    AnswerBody,
    /// Bytes of a request's body.
    RequestBody,
    /// Workers of a proxy.
    Workers,
    /// Buckets of two workers, from a usual number down to one, which one worker owns.
    Skew,
}

/// How fast requests are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// As fast as answers come: 100 % of load.
    Closed,
    /// A share, in percent, of what the closed loop before it reached.
    Share(u32),
    /// A share, in percent, of what the first closed loop of the series reached, whoever ran in it.
    ShareOfFirst(u32),
}

impl Pace {
    /// The load in percent.
    pub(super) fn percent(self) -> u32 {
        match self {
            Self::Closed => 100,
            Self::Share(percent) | Self::ShareOfFirst(percent) => percent,
        }
    }
}

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sent {
    /// `GET /channels/{id}`.
    Gets(Fleet),
    /// `POST /channels/{id}/messages` with a body of so many bytes.
    Posts(Fleet, usize),
    /// `GET /webhooks/{id}/{token}` of so many webhooks, which fall under no global limit: a single
    /// bot's would hold one bucket back before the processor does.
    Webhooks(u64),
}

impl Sent {
    pub(super) fn plan(self) -> Plan {
        match self {
            Self::Gets(fleet) => fleet.plan(),
            Self::Posts(fleet, bytes) => {
                let body = crate::compare::traffic::body(bytes);
                fleet.plan_of(|recipe| Recipe {
                    method: "POST".to_owned(),
                    path: format!("{}/messages", recipe.path),
                    body: body.clone(),
                    ..recipe
                })
            }
            Self::Webhooks(count) => Plan::mixed((0..count).map(webhook).collect()),
        }
    }

    /// Buckets that its requests fall into.
    pub(super) fn buckets(self) -> u64 {
        match self {
            Self::Gets(fleet) | Self::Posts(fleet, _) => fleet.buckets(),
            Self::Webhooks(count) => count,
        }
    }
}

/// Ids of webhooks count from here.
const FIRST_WEBHOOK: u64 = 223_704_706_495_545_344;

fn webhook(n: u64) -> Recipe {
    // As long as a real one.
    let token = format!("{n:068}");
    Recipe {
        path: format!("/api/v10/webhooks/{}/{token}", FIRST_WEBHOOK + n),
        authorization: String::new(),
        ..Recipe::default()
    }
}

/// One value of what grows, and all that is measured at it.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The value.
    pub x: u64,
    /// What is sent.
    pub sent: Sent,
    /// What is answered.
    pub orders: Orders,
    /// Connections of the load.
    pub connections: usize,
    /// See [`LoadConfig`](crate::load::LoadConfig::under_way).
    pub under_way: Option<usize>,
    /// Workers of each proxy.
    pub workers: usize,
    /// Every bucket is touched once before anything is measured.
    pub touched: bool,
    /// Who is measured, and at which loads.
    pub peers: Vec<(Peer, Vec<Pace>)>,
}

/// Client connections; more than 64 requests are never under way, so that only what a connection
/// costs grows.
const CONNECTION_COUNTS: [usize; 7] = [1, 8, 64, 256, 1_000, 4_000, 10_000];

/// Buckets, up to weir's default of `MAX_BUCKETS`.
const BUCKET_COUNTS: [u64; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];

/// Bodies, up to what Discord takes of a bot without boosts.
const BODY_BYTES: [usize; 6] = [0, 1 << 10, 10 << 10, 100 << 10, 1 << 20, 10 << 20];

/// Connections while bodies grow: with 10 MiB each on 64, buffers would be measured.
const BODY_CONNECTIONS: usize = 16;

/// Bots that send while bodies grow, one bucket each: twice the connections, so that none waits for
/// another of its bucket.
const BODY_FLEET: Fleet = Fleet {
    bots: 2 * BODY_CONNECTIONS as u64,
    channels: 1,
};

/// Bots of a large number of buckets.
const BUCKET_BOTS: u64 = 50;

/// Loads of the series of loads, in percent of weir's closed loop.
const LOADS: [u32; 7] = [5, 10, 25, 50, 75, 90, 100];

/// A bucket that lets 300,000 requests a second pass, the largest limit that weir takes in a short
/// window: nothing waits in it.
const WIDE: Orders = Orders {
    life: 0,
    body_bytes: crate::compare::traffic::BODY_BYTES,
    limit: 30_000,
    reset_after_ms: 100,
};

impl Series {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Load,
        Self::Connections,
        Self::Buckets,
        Self::AnswerBody,
        Self::RequestBody,
        Self::Workers,
        Self::Skew,
    ];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Connections => "connections",
            Self::Buckets => "buckets",
            Self::AnswerBody => "answer-body",
            Self::RequestBody => "request-body",
            Self::Workers => "workers",
            Self::Skew => "skew",
        }
    }

    /// What it is, in a sentence.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Load => {
                "64 connections; open loop, at shares of the rate that weir reaches in the closed loop; \
                 latency counts from the intended time"
            }
            Self::Connections => {
                "so many client connections, of which at most 64 at a time have a request under way, in \
                 turns"
            }
            Self::Buckets => {
                "GETs over so many buckets in turns, each touched before the measurement; 50 bots at most; \
                 one bucket is a webhook's, since a bot's global limit would hold it back"
            }
            Self::AnswerBody => "GETs on 16 connections, answers of so many bytes",
            Self::RequestBody => "POSTs on 16 connections, requests of so many bytes, 32 buckets",
            Self::Workers => {
                "so many workers or threads, each on a core of its own; 64 connections"
            }
            Self::Skew => {
                "two workers, 64 connections; 1,024 webhooks, so that each worker owns half of the \
                 buckets, or one: every request goes through the same bucket of one worker"
            }
        }
    }

    /// What it goes through on these cores.
    pub(super) fn steps(self, cores: &Cores) -> Vec<Step> {
        let all = [Pace::Closed, Pace::Share(50), Pace::Share(5)];
        let weir_at_all = || {
            vec![
                (Peer::Weir, all.to_vec()),
                (Peer::Nginx, vec![Pace::Closed]),
                (Peer::Haproxy, vec![Pace::Closed]),
            ]
        };
        let usual = Step {
            x: 0,
            sent: Sent::Gets(Fleet::USUAL),
            orders: Orders::default(),
            connections: CONNECTIONS,
            under_way: None,
            workers: 1,
            touched: false,
            peers: weir_at_all(),
        };
        match self {
            Self::Load => vec![
                Step {
                    peers: vec![(Peer::Weir, vec![Pace::Closed])],
                    ..usual.clone()
                },
                Step {
                    peers: [
                        Peer::Weir,
                        Peer::Nginx,
                        Peer::Haproxy,
                        Peer::Relay,
                        Peer::Direct,
                    ]
                    .map(|peer| (peer, LOADS.map(Pace::ShareOfFirst).to_vec()))
                    .to_vec(),
                    ..usual
                },
            ],
            Self::Connections => CONNECTION_COUNTS
                .map(|connections| Step {
                    x: connections as u64,
                    connections,
                    under_way: Some(connections.min(CONNECTIONS)),
                    ..usual.clone()
                })
                .to_vec(),
            Self::Buckets => BUCKET_COUNTS
                .map(|buckets| Step {
                    x: buckets,
                    sent: match buckets.min(BUCKET_BOTS) {
                        1 => Sent::Webhooks(1),
                        bots => Sent::Gets(Fleet {
                            bots,
                            channels: buckets / bots,
                        }),
                    },
                    orders: WIDE,
                    touched: true,
                    peers: vec![(Peer::Weir, all.to_vec())],
                    ..usual.clone()
                })
                .to_vec(),
            Self::AnswerBody => BODY_BYTES
                .map(|body_bytes| Step {
                    x: body_bytes as u64,
                    orders: Orders {
                        body_bytes,
                        ..Orders::default()
                    },
                    connections: BODY_CONNECTIONS,
                    ..usual.clone()
                })
                .to_vec(),
            Self::RequestBody => BODY_BYTES
                .map(|bytes| Step {
                    x: bytes as u64,
                    sent: Sent::Posts(BODY_FLEET, bytes),
                    connections: BODY_CONNECTIONS,
                    ..usual.clone()
                })
                .to_vec(),
            Self::Workers => std::iter::successors(Some(1), |workers| Some(workers * 2))
                .take_while(|&workers| workers <= cores.all.len())
                .map(|workers| Step {
                    x: workers as u64,
                    workers,
                    peers: [Peer::Weir, Peer::Nginx, Peer::Haproxy]
                        .map(|peer| (peer, all.to_vec()))
                        .to_vec(),
                    ..usual.clone()
                })
                .collect(),
            Self::Skew if cores.all.len() < 2 => Vec::new(),
            Self::Skew => [Fleet::USUAL.buckets(), 1]
                .map(|buckets| Step {
                    x: buckets,
                    sent: Sent::Webhooks(buckets),
                    orders: WIDE,
                    workers: 2,
                    touched: true,
                    peers: vec![(
                        Peer::Weir,
                        vec![Pace::Closed, Pace::ShareOfFirst(50), Pace::ShareOfFirst(5)],
                    )],
                    ..usual.clone()
                })
                .to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(count: usize) -> Cores {
        Cores {
            all: (0..count).collect(),
            load: count - 1,
            upstream: count - 1,
        }
    }

    #[test]
    fn workers_grow_as_far_as_there_are_cores() {
        let steps = |count| Series::Workers.steps(&cores(count));
        let counts: Vec<_> = steps(6).iter().map(|step| step.workers).collect();
        assert_eq!(counts, [1, 2, 4]);
        assert_eq!(steps(1).len(), 1);
        assert!(Series::Skew.steps(&cores(1)).is_empty());
    }

    #[test]
    fn every_step_of_buckets_sends_to_as_many_as_it_says() {
        for step in Series::Buckets.steps(&cores(2)) {
            assert_eq!(step.sent.buckets(), step.x);
        }
    }

    #[test]
    fn weir_is_measured_at_every_value_at_5_50_and_100_percent() {
        for series in Series::ALL {
            let steps = series.steps(&cores(2));
            for step in steps.iter().filter(|step| step.x > 0) {
                let (_, paces) = &step.peers[0];
                let loads: Vec<_> = paces.iter().map(|pace| pace.percent()).collect();
                assert_eq!(loads, [100, 50, 5], "{series:?} {}", step.x);
            }
        }
    }

    #[test]
    fn an_upload_is_as_long_as_it_says() {
        let fleet = Fleet {
            bots: 1,
            channels: 1,
        };
        let target = crate::client::Target::plain(([127, 0, 0, 1], 1).into());
        let request = Sent::Posts(fleet, 1024).plan().first(&target);
        let request = String::from_utf8(request).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /api/v10/channels/") && head.contains("/messages HTTP"));
        assert!(head.contains("Content-Length: 1024") && body.len() == 1024);
    }
}
