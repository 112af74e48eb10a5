//! A node that lives and whose queue port does not: its bots' shards go on elsewhere, its requests stay.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::settings::{GatewaySettings, Settings};
use loadtest::mock::{self, MockConfig};
use weir::Handle;

use super::cluster::{BLUR, PERIOD, free_port, see_each_other, start_node};
use super::support::cluster::token;
use super::support::http::Client;
use super::support::queue::assert_free;

#[test]
fn shards_of_a_node_without_a_queue_port_go_elsewhere_and_it_stays_a_member() {
    let mock = mock::start(MockConfig {
        settings: Settings {
            gateway: GatewaySettings::default(),
            ..Settings::default()
        },
        ..MockConfig::default()
    })
    .expect("the mock starts");
    let (port, cluster_port) = (free_port(), free_port());
    let start = |ip: &str, queue| start_node(&mock, ip, queue, cluster_port);
    let (without, with) = (start("127.0.0.1", None), start("127.0.0.2", Some(port)));
    let ownership = |node: &Handle| node.members().expect("a cluster").ownership();
    see_each_other([&without, &with]);
    let theirs = ownership(&without);
    let bot = token(theirs.nodes(), theirs.me(), None, 0);
    let queue = with.gateway_queue_addr().expect("the queue is served");
    let members = with.members().expect("a cluster").clone();
    let (over, lost) = (AtomicBool::new(false), AtomicBool::new(false));
    let ask = &|shard: u32| {
        let mut client = Client::connect(queue);
        client.send(format!(
            "GET /?shard={shard} HTTP/1.1\r\nHost: queue\r\nAuthorization: {bot}\r\n\r\n"
        ));
        client.try_answer(false).map(|answer| {
            assert_free(&answer);
            Instant::now()
        })
    };
    let asked = Instant::now();
    let mut gone = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                lost.fetch_or(members.ownership().nodes().len() < 2, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        let shards = [0, 1].map(|shard| scope.spawn(move || ask(shard)));
        let gone = shards.map(|shard| shard.join().ok().flatten());
        over.store(true, Ordering::Relaxed);
        gone.map(|gone| gone.expect("no shard waits for ever"))
    });
    gone.sort();
    let first = gone[0] - asked;
    assert!(first < 2 * PERIOD, "the first went after {first:?}");
    let apart = gone[1] - gone[0];
    assert!(
        (PERIOD - BLUR..PERIOD * 3 / 2).contains(&apart),
        "{apart:?}"
    );
    assert!(
        !lost.load(Ordering::Relaxed),
        "it was passed over for its requests"
    );
}
