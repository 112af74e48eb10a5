//! Forward proxies that share their caps: what a client of one of them meets.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir::ForwardProxy;
use weir::config::{RedisAddress, RedisFail, RedisSettings};
use weir::egress::Options;
use weir::egress::shared::Standing;

use crate::redis_server::Redis;
use crate::stage::{PATIENCE, eventually};
use crate::support::http::{Answer, Client};
use crate::support::target::Target;

/// A proxy of two workers with a cap of `cap`, which stands with Redis as it will.
fn start(redis: RedisSettings, cap: u32, change: impl FnOnce(&mut Options)) -> ForwardProxy {
    let mut options = Options {
        workers: 2,
        redis: Some(redis),
        ..Options::default()
    };
    options.settings.allow = Some("127.0.0.0/8".parse().unwrap());
    options.settings.max_connections = cap;
    change(&mut options);
    ForwardProxy::start(options).expect("the proxy starts")
}

/// Waits until so many proxies share.
fn share(proxies: &[&ForwardProxy]) {
    for proxy in proxies {
        eventually("they share", || {
            let counters = proxy.limits().fleet().unwrap();
            counters.standing == Standing::Shared && counters.fleet == proxies.len()
        });
    }
}

fn patient(options: &mut Options) {
    options.settings.queue_timeout = Some(Duration::from_secs(60));
}

fn send(proxy: &ForwardProxy, target: SocketAddr) -> Client {
    let mut client = Client::connect(proxy.addr());
    client.send(format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
    ));
    client
}

fn ask(proxy: &ForwardProxy, target: SocketAddr) -> (Client, Answer) {
    let mut client = send(proxy, target);
    let answer = client.answer(true);
    (client, answer)
}

fn tunnel(proxy: &ForwardProxy, target: SocketAddr) -> Client {
    let (client, answer) = ask(proxy, target);
    assert_eq!(answer.status, 200, "{answer:?}");
    client
}

/// Those that wait for a place, of all hosts.
fn waiting(proxy: &ForwardProxy) -> u64 {
    let (named, others) = proxy.limits().tallies();
    named.iter().map(|(_, tally)| tally.waiting).sum::<u64>() + others.waiting
}

#[test]
fn two_proxies_have_no_more_connections_than_the_cap_and_both_know_of_them() {
    let redis = Redis::start(&[]);
    let target = Target::echo();
    let proxies = [0, 1].map(|_| start(redis.settings(), 3, |_| ()));
    let [one, other] = &proxies;
    share(&[one, other]);
    let _first = tunnel(one, target.addr);
    let second = tunnel(one, target.addr);
    let third = tunnel(other, target.addr);
    let (_, refused) = ask(other, target.addr);
    assert_eq!(refused.status, 500);
    assert_eq!(target.ever(), 3, "nobody was dialled for it");
    let key = target.addr.to_string();
    assert_eq!(other.limits().active_connections(&key), 3, "of the fleet");
    let (named, _) = other.limits().tallies();
    assert_eq!((named[0].1.active, named[0].1.refused), (1, 1), "its own");
    let mut text = String::new();
    other.limits().metrics_text(&mut text);
    for line in [
        "weir_forward_redis_asks_total{outcome=\"full\"} 1",
        "weir_forward_redis_standing{standing=\"shared\"} 1",
        "weir_forward_redis_proxies{kind=\"weir\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    drop((second, third));
    eventually("two are free", || redis.total() == 1);
    let held = [0, 1].map(|_| tunnel(other, target.addr));
    assert_eq!(ask(one, target.addr).1.status, 500);
    drop(held);
    eventually("those, too", || redis.total() == 1);
    for proxy in proxies {
        proxy.stop(Duration::ZERO);
    }
    assert!(redis.counters().is_empty(), "{:?}", redis.counters());
}

#[test]
fn hosts_without_a_cap_are_counted_for_those_that_have_one() {
    let redis = Redis::start(&[]);
    let target = Target::echo();
    let free = start(redis.settings(), 0, |_| ());
    let strict = start(redis.settings(), 2, |_| ());
    share(&[&free, &strict]);
    let held: Vec<_> = (0..5).map(|_| tunnel(&free, target.addr)).collect();
    eventually("all are counted", || redis.total() == 5);
    assert_eq!(ask(&strict, target.addr).1.status, 500);
    drop(held);
    eventually("and given back", || redis.total() == 0);
    tunnel(&strict, target.addr);
}

#[test]
fn those_in_line_for_a_place_of_another_proxy_are_served_in_order() {
    let redis = Redis::start(&[]);
    let target = Target::echo();
    let (one, other) = (
        start(redis.settings(), 2, patient),
        start(redis.settings(), 2, patient),
    );
    share(&[&one, &other]);
    let mut held = vec![tunnel(&one, target.addr), tunnel(&one, target.addr)];
    let mut line = Vec::new();
    for n in 0..6 {
        line.push(send(&other, target.addr));
        eventually("it waits", || waiting(&other) == n + 1);
    }
    let (named, others) = other.limits().tallies();
    assert!(named.is_empty() && others.active == 0, "none is there yet");
    for mut client in line {
        // First those of the other proxy end, which has to be asked after; then its own.
        drop(held.remove(0));
        assert_eq!(client.answer(true).status, 200);
        held.push(client);
        assert!(redis.total() <= 2);
    }
    drop(held);
    eventually("all are back", || redis.total() == 0);
    assert!(target.most() <= 2);
}

#[test]
fn a_wait_for_another_proxy_ends_in_time() {
    let redis = Redis::start(&[]);
    let target = Target::echo();
    let one = start(redis.settings(), 1, |_| ());
    let other = start(redis.settings(), 1, |options| {
        options.settings.queue_timeout = Some(Duration::from_millis(400));
    });
    share(&[&one, &other]);
    let held = tunnel(&one, target.addr);
    let began = Instant::now();
    assert_eq!(ask(&other, target.addr).1.status, 500);
    assert!(began.elapsed() >= Duration::from_millis(400));
    assert_eq!(waiting(&other), 0);
    drop(held);
    eventually("it is free", || redis.total() == 0);
    tunnel(&other, target.addr);
}

#[test]
fn a_client_that_leaves_while_the_answer_is_on_its_way_leaves_no_place_taken() {
    let redis = Redis::start(&[]);
    let target = Target::echo();
    let slow = RedisSettings {
        timeout: Duration::from_secs(10),
        fail: RedisFail::Closed,
        ..redis.settings()
    };
    for change in [|_: &mut Options| (), patient] {
        let proxy = start(slow.clone(), 3, change);
        share(&[&proxy]);
        let granted = proxy.limits().fleet().unwrap().granted;
        redis.signal("STOP");
        let leaving: Vec<_> = (0..3).map(|_| send(&proxy, target.addr)).collect();
        eventually("all ask", || proxy.limits().fleet().unwrap().waiting == 3);
        drop(leaving);
        eventually("all have left", || waiting(&proxy) == 0);
        redis.signal("CONT");
        eventually("all were granted", || {
            proxy.limits().fleet().unwrap().granted == granted + 3
        });
        eventually("none is kept", || {
            proxy.limits().fleet().unwrap().held == 0 && redis.total() == 0
        });
        let held = [0, 1, 2].map(|_| tunnel(&proxy, target.addr));
        drop(held);
        assert!(proxy.stop(PATIENCE));
    }
    assert_eq!(target.ever(), 6, "nobody was dialled for those who left");
}

#[test]
fn a_proxy_that_ends_while_answers_are_on_their_way_leaves_nothing_in_redis() {
    let redis = Redis::start(&[]);
    let target = Target::echo();
    let slow = RedisSettings {
        timeout: Duration::from_secs(3),
        fail: RedisFail::Closed,
        ..redis.settings()
    };
    let proxy = start(slow, 3, patient);
    share(&[&proxy]);
    let _held = tunnel(&proxy, target.addr);
    redis.signal("STOP");
    let _asking = [0, 1].map(|_| send(&proxy, target.addr));
    eventually("both ask", || proxy.limits().fleet().unwrap().waiting == 2);
    let limits = proxy.limits();
    let ends = std::thread::spawn(move || proxy.stop(Duration::from_millis(100)));
    eventually("they are cut", || waiting_of(&limits) == 0);
    redis.signal("CONT");
    assert!(!ends.join().unwrap(), "some were cut");
    eventually("nothing is there", || redis.total() == 0);
    assert_eq!(limits.fleet().unwrap().held, 0);
}

fn waiting_of(limits: &weir::egress::Limits) -> u64 {
    let (named, others) = limits.tallies();
    named.iter().map(|(_, tally)| tally.waiting).sum::<u64>() + others.waiting
}

#[test]
fn a_strict_proxy_says_503_while_redis_is_away_and_goes_on_afterwards() {
    let mut redis = Redis::start(&[]);
    let target = Target::echo();
    let strict = RedisSettings {
        fail: RedisFail::Closed,
        ..redis.settings()
    };
    let proxy = start(strict, 1, patient);
    share(&[&proxy]);
    redis.kill();
    eventually("it is away", || {
        proxy.limits().fleet().unwrap().standing == Standing::Away
    });
    let (_, refused) = ask(&proxy, target.addr);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let mut text = String::new();
    proxy.limits().metrics_text(&mut text);
    assert!(text.contains("weir_forward_refused_total{reason=\"shared\"} 1"));
    redis.run();
    share(&[&proxy]);
    let held = tunnel(&proxy, target.addr);
    assert_eq!(redis.total(), 1);
    drop(held);
}

#[test]
fn a_redis_that_refuses_us_is_an_error_at_the_start_and_one_that_is_not_there_is_none() {
    let redis = Redis::start(&["--requirepass", "secret"]);
    let options = |redis| Options {
        workers: 1,
        redis: Some(redis),
        ..Options::default()
    };
    let Err(error) = ForwardProxy::start(options(redis.settings())) else {
        panic!("it starts without a password");
    };
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    assert!(
        text.starts_with("REDIS_PASSWORD: Redis at unix://"),
        "{text}"
    );
    let nowhere = RedisSettings::new(RedisAddress::Unix("/nowhere/redis.sock".into()));
    let proxy = ForwardProxy::start(options(nowhere)).unwrap();
    assert_eq!(
        proxy.limits().fleet().unwrap().standing,
        Standing::Away,
        "found later"
    );
}
