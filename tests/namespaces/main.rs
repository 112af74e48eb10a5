//! Three nodes as processes of their own, each in a network namespace of its own, behind a load
//! balancer and in front of one Discord: killed, cut off, healed, restarted one at a time, under load.
//!
//! ```text
//! hub: this program again (clients, Discord's mock), 10.77.0.1
//!  └ bridge ─┬─ veth ─ node 1, 10.77.0.11
//!            ├─ veth ─ node 2, 10.77.0.12
//!            └─ veth ─ node 3, 10.77.0.13
//! ```
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]
#![expect(
    clippy::print_stdout,
    reason = "what was measured, and what was skipped"
)]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod late;
mod stage;

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use clients::Load;
use loadtest::mock::limits::Cause;
use loadtest::mock::oracle::OracleReport;
use loadtest::mock::tls::Tls;
use loadtest::mock::{self, MockConfig, MockHandle};
use stage::Stage;
use support::cluster::{node_at, token};
use support::http::Client;
use support::program::Program;

const SECRET: &str = "what three nodes share";
const NAME: &str = "limits_are_kept_and_clients_are_served_whatever_becomes_of_nodes";
/// Set for the program's second life, within the hub.
const INSIDE: &str = "WEIR_TEST_NAMESPACES";

/// Set for it where it delays packets: milliseconds.
const LATE: &str = "WEIR_TEST_LATE";

/// The mock's oracle and the clients must find no more than this, by disturbance. Three bots ask for
/// as much as they get, each owned by another node; the mock grants each 50 in a second.
///
/// Who takes over from a dead node does not know what it sent in its last second, and grants half of one
/// bot's 50.
const AFTER_A_DEATH: u64 = 25;
/// A node that lives and is taken for dead, of packets that were lost, is such a death.
const WITH_LOSS: u64 = AFTER_A_DEATH;
/// Two parts that cannot hear each other each grant all that there is, and until they have agreed again:
/// docs/cluster.md's figures for the four seconds, and for what comes after them.
const CUT_AND_HEALED: u64 = 219 + 107;
/// A node that comes back: the page's figure.
const BY_A_RETURN: u64 = 3;
/// One that is restarted: what its bots have under way elsewhere at that moment may be too many.
const BY_A_RESTART: u64 = 2;

/// How late packets between nodes come, each way: two of them are half of what a probe may take.
const LATE_BY: Duration = Duration::from_millis(20);

/// What counted for Discord before a disturbance has left its windows, and all agree.
const SETTLE: Duration = Duration::from_millis(3_300);
/// How long nodes may take to agree.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn limits_are_kept_and_clients_are_served_whatever_becomes_of_nodes() {
    if let Ok(ms) = std::env::var(LATE) {
        return late::run(Duration::from_millis(ms.parse().unwrap())).unwrap();
    }
    match std::env::var(INSIDE) {
        Ok(prefix) => inside(&Stage::inside(&prefix)),
        Err(_) => {
            let stage = match Stage::build() {
                Ok(stage) => stage,
                Err(why) => {
                    let skipped = "SKIPPED: network namespaces are not to be had here";
                    // What is printed is not shown of a test that passes.
                    writeln!(std::io::stderr(), "{skipped}: {why}").unwrap();
                    return;
                }
            };
            let mut command = stage.within_hub(&std::env::current_exe().unwrap());
            command.args([NAME, "--exact", "--nocapture"]);
            command.env(INSIDE, stage.prefix());
            assert!(command.status().unwrap().success());
        }
    }
}

/// One run.
struct World<'s> {
    stage: &'s Stage,
    mock: MockHandle,
    nodes: Vec<Option<Program>>,
    load: Load,
}

fn inside(stage: &Stage) {
    let mut mock = MockConfig {
        ip: Ipv4Addr::new(10, 77, 0, 1).into(),
        tls: Tls::Plain,
        watched: true,
        ..MockConfig::default()
    };
    mock.settings.latency_ms = 20.0;
    let mock = mock::start(mock).unwrap();
    let addrs = [1, 2, 3].map(|n| (stage::node_ip(n), 8080).into());
    let nodes = addrs.map(node_at);
    // One greedy and one modest bot of each node's.
    let bots = |from| {
        let of = |(n, node)| token(&nodes, node, Some(SECRET), from + n as u64);
        nodes.iter().enumerate().map(of).collect()
    };
    let mut world = World {
        stage,
        nodes: (1..=3).map(|n| Some(start(stage, &mock, n))).collect(),
        mock,
        load: Load::new(addrs.to_vec()),
    };
    world.agree(&[1, 2, 3], 3);
    world.load.begin(bots(0), bots(10));
    thread::sleep(Duration::from_secs(2));

    world.steady("three nodes");
    world.disturbed("a node is killed", AFTER_A_DEATH, |world| {
        world.node(1).signal("KILL");
        world.nodes[1] = None;
        world.agree(&[1, 3], 2);
    });
    world.steady("two nodes");
    world.disturbed("it comes back", BY_A_RETURN, |world| {
        world.nodes[1] = Some(start(world.stage, &world.mock, 2));
        world.agree(&[1, 2, 3], 3);
    });
    world.disturbed("packets are lost and come late", WITH_LOSS, |world| {
        let mut lossy = world.stage.lossy(LATE_BY);
        thread::sleep(Duration::from_secs(4));
        assert!(lossy.is_late(), "nothing was delayed");
        let there_and_back = world.stage.connects(1, 2);
        assert!(there_and_back >= 2 * LATE_BY, "{there_and_back:?}");
        drop(lossy);
        world.agree(&[1, 2, 3], 3);
    });
    let cut_for = Duration::from_secs(4);
    world.disturbed(
        "a node is cut off, and found again",
        CUT_AND_HEALED,
        |world| {
            world.stage.cut(true);
            world.agree(&[1, 2], 2);
            world.agree(&[3], 1);
            thread::sleep(cut_for);
            world.stage.cut(false);
            world.agree(&[1, 2, 3], 3);
        },
    );
    world.steady("after all that");
    // No client has to know of it.
    world.planned(
        "they are restarted one at a time",
        3 * BY_A_RESTART,
        |world| {
            for n in 1..=3 {
                world.load.rotate(n, false);
                thread::sleep(Duration::from_millis(100));
                let mut node = world.nodes[n - 1].take().unwrap();
                node.signal("TERM");
                assert!(node.wait(PATIENCE).success());
                world.nodes[n - 1] = Some(start(world.stage, &world.mock, n));
                world.agree(&[1, 2, 3], 3);
                world.load.rotate(n, true);
                thread::sleep(Duration::from_millis(500));
            }
        },
    );
    let handed: u64 = (1..=3).map(|n| world.handovers(n)).sum();
    assert!(handed > 0, "nothing was handed over");
    let once = world.mock.oracle().once;
    world.load.end();
    assert_eq!(
        once.repeated_unsafe, 0,
        "a request was processed twice: {once:?}"
    );
}

impl World<'_> {
    fn node(&self, index: usize) -> &Program {
        self.nodes[index].as_ref().unwrap()
    }

    /// While nothing happens nothing is refused, to nobody.
    fn steady(&mut self, what: &str) {
        self.planned(what, 0, |_| thread::sleep(Duration::from_secs(3)));
    }

    /// What is done on purpose costs no client anything, unless the machine stood still.
    fn planned(&mut self, what: &str, refused_max: u64, act: impl Fn(&mut Self)) {
        for attempt in 1.. {
            let (refused, limited, late) = self.watch(what, &act);
            if refused <= refused_max && limited == 0 {
                return;
            }
            assert!(
                attempt < 3 && late > Duration::from_millis(60),
                "{what}: Discord refused {refused}, clients were told {limited} times to wait"
            );
            thread::sleep(SETTLE);
        }
    }

    fn disturbed(&mut self, what: &str, refused_max: u64, act: impl Fn(&mut Self)) {
        let act = |world: &mut Self| {
            act(world);
            thread::sleep(SETTLE);
        };
        let (refused, ..) = self.watch(what, &act);
        assert!(refused <= refused_max, "{what}: Discord refused {refused}");
    }

    /// Does something under load: what Discord refused meanwhile, and what clients were told to be
    /// refused; how long the machine stood still.
    fn watch(&mut self, what: &str, act: &impl Fn(&mut Self)) -> (u64, u64, Duration) {
        let began = Instant::now();
        let before = self.mock.oracle();
        let clients_before = self.load.counts();
        self.mock.lateness();
        act(self);
        let (after, clients) = (self.mock.oracle(), self.load.counts());
        let refused = after.violations - before.violations;
        let by_bucket = |report: &OracleReport| report.refused.get(&Cause::Bucket).copied();
        let by_bucket = by_bucket(&after).unwrap_or(0) - by_bucket(&before).unwrap_or(0);
        let limited = clients.limited - clients_before.limited;
        let late = self.mock.lateness();
        println!(
            "{what}: {:.1} s, {} answered, Discord refused {refused} ({by_bucket} for a bucket), clients were refused {limited}, \
             {} connections ended without an answer; latest {late:?}",
            began.elapsed().as_secs_f64(),
            clients.answered - clients_before.answered,
            clients.cut - clients_before.cut,
        );
        assert_eq!(self.load.wrong(), Vec::<String>::new(), "{what}");
        assert!(
            clients.answered > clients_before.answered,
            "{what}: nobody is served"
        );
        (refused, limited, late)
    }

    /// Waits until each of these nodes sees so many.
    fn agree(&self, nodes: &[usize], count: usize) {
        let until = Instant::now() + PATIENCE;
        for n in nodes {
            loop {
                let page = page(*n, "/nirn/cluster");
                if page.matches("\"alive\"").count() == count
                    && page.matches("\"state\"").count() == count
                {
                    break;
                }
                assert!(
                    Instant::now() < until,
                    "node {n} never sees {count}: {page}"
                );
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Hand-overs that a node has confirmed to have been taken.
    fn handovers(&self, n: usize) -> u64 {
        let metrics = page(n, "/metrics");
        let name = "weir_cluster_handovers_total{result=\"received\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse().unwrap()
    }
}

/// A page of a node's metrics port.
fn page(n: usize, path: &str) -> String {
    let mut client = Client::connect((stage::node_ip(n), 9000).into());
    client
        .ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .text()
}

fn start(stage: &Stage, mock: &MockHandle, n: usize) -> Program {
    let (ip, upstream) = (
        stage::node_ip(n).to_string(),
        format!("http://{}", mock.addr),
    );
    let variables = [
        ("UPSTREAM_URL", upstream.as_str()),
        ("BIND_IP", ip.as_str()),
        ("PORT", "8080"),
        ("METRICS_PORT", "9000"),
        ("CLUSTER_PORT", "7654"),
        ("CLUSTER_MEMBERS", "10.77.0.11,10.77.0.12,10.77.0.13"),
        ("CLUSTER_SECRET", SECRET),
        ("WORKERS", "1"),
    ];
    Program::start_with(mock, &variables, |command| {
        *command = stage.within(n, command);
    })
}
