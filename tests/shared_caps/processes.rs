//! Proxies in processes of their own, which can be killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use weir::config::{RedisAddress, RedisSettings};
use weir::egress::shared::{Fleet, Verdict};

use crate::redis_server::Redis;
use crate::stage::{PATIENCE, ask, ask_all, eventually, fleet, granted, host};

/// What a process of this program that is a proxy is told by.
const ORDERS: &str = "WEIR_TEST_PROXY";

/// The host that all of them are about.
const HOST: &str = "target.example";

/// How many connections there are, counted by whoever they lead to.
#[derive(Default)]
struct Tally {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

/// A server that says when a connection has begun and when its end is noticed.
fn target() -> (SocketAddr, Arc<Tally>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let tally = Arc::new(Tally::default());
    let counted = tally.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, tally) = (stream.unwrap(), counted.clone());
            let now = tally.now.fetch_add(1, Ordering::SeqCst) + 1;
            tally.most.fetch_max(now, Ordering::SeqCst);
            tally.all.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                // Whoever is killed does not care.
                let _ = stream.write_all(b"+");
                let _ = stream.read(&mut [0]);
                tally.now.fetch_sub(1, Ordering::SeqCst);
                let _ = stream.write_all(b"-");
            });
        }
    });
    (address, tally)
}

/// Opens a connection, keeps it for a while and closes it; returns when the target has noticed.
fn visit(address: SocketAddr, stay: Duration) {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    thread::sleep(stay);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"-");
}

/// A proxy in a process of its own; killed when dropped.
struct Proxy {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Proxy {
    fn start(redis: &Redis, life: Duration, orders: &str) -> Self {
        let socket = redis.socket();
        let socket = socket.to_str().unwrap();
        let orders = format!("{socket} {} {orders}", life.as_millis());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "processes::one_proxy_if_told_to_be_one",
                "--nocapture",
            ])
            .env(ORDERS, orders)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Self { child, says }
    }

    /// Waits until it says so.
    fn hear(&mut self, word: &str) {
        let mut line = String::new();
        while !line.trim_end().ends_with(word) {
            line.clear();
            assert!(
                self.says.read_line(&mut line).unwrap() > 0,
                "no word of {word}"
            );
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test by itself: what the processes that the tests start are.
#[test]
fn one_proxy_if_told_to_be_one() {
    let Ok(orders) = std::env::var(ORDERS) else {
        return;
    };
    let words: Vec<&str> = orders.split(' ').collect();
    let [socket, life, what @ ..] = words.as_slice() else {
        panic!("{orders}");
    };
    let settings = RedisSettings {
        max_lifetime: Duration::from_millis(life.parse().unwrap()),
        ..RedisSettings::new(RedisAddress::Unix(PathBuf::from(socket)))
    };
    let fleet = Arc::new(fleet(&settings));
    match what {
        ["serve", address, cap, visits] => {
            serve(
                &fleet,
                address.parse().unwrap(),
                cap.parse().unwrap(),
                visits.parse().unwrap(),
            );
            assert!(fleet.stop(PATIENCE));
            println!("done");
        }
        ["hold", cap, places] => {
            let got = ask_all(
                &fleet,
                &host(HOST),
                cap.parse().unwrap(),
                places.parse().unwrap(),
            );
            assert_eq!(granted(&got).to_string(), *places);
            println!("holding");
            // Until it is killed.
            thread::sleep(Duration::from_secs(120));
        }
        _ => panic!("{orders}"),
    }
}

/// All visitors ask at once; whoever finds the host full asks again.
fn serve(fleet: &Arc<Fleet>, address: SocketAddr, cap: u32, visits: usize) {
    let (sender, answers) = mpsc::channel();
    let host = host(HOST);
    let enter = || {
        let sender = sender.clone();
        fleet.take(
            &host,
            cap,
            Box::new(move |verdict| sender.send(verdict).unwrap()),
        );
    };
    (0..visits).for_each(|_| enter());
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut left = visits;
    while left > 0 {
        match answers.recv_timeout(PATIENCE).expect("an answer") {
            Verdict::Granted => {
                left -= 1;
                let (fleet, host) = (fleet.clone(), host.clone());
                let visit = thread::spawn(move || {
                    visit(address, Duration::from_millis(10));
                    fleet.give_back(&host);
                });
                served.lock().unwrap().push(visit);
            }
            Verdict::Full | Verdict::Refused => {
                thread::sleep(Duration::from_micros(200));
                enter();
            }
        }
    }
    for visit in served.lock().unwrap().drain(..) {
        visit.join().unwrap();
    }
}

#[test]
fn five_hundred_at_once_over_three_processes_never_exceed_a_cap_of_25() {
    let redis = Redis::start(&[]);
    let (address, tally) = target();
    let life = Duration::from_secs(60);
    let mut proxies: Vec<Proxy> = [167, 167, 166]
        .map(|visits| Proxy::start(&redis, life, &format!("serve {address} 25 {visits}")))
        .into();
    proxies.iter_mut().for_each(|proxy| proxy.hear("done"));
    let most = tally.most.load(Ordering::SeqCst);
    assert!(most <= 25, "{most} at once");
    assert!(most > 8, "{most} at once are no use of a cap of 25");
    assert_eq!(tally.all.load(Ordering::SeqCst), 500);
    assert!(redis.counters().is_empty());
}

#[test]
fn the_places_of_a_killed_proxy_come_back_after_the_life_of_its_counters() {
    let redis = Redis::start(&[]);
    let life = Duration::from_secs(2);
    let mut proxy = Proxy::start(&redis, life, "hold 25 20");
    proxy.hear("holding");
    let survivor = fleet(&RedisSettings {
        max_lifetime: life,
        ..redis.settings()
    });
    let host = host(HOST);
    assert_eq!(granted(&ask_all(&survivor, &host, 25, 25)), 5);
    // Renewed for as long as it lives.
    thread::sleep(life * 3 / 2);
    assert_eq!(ask(&survivor, &host, 25), Verdict::Full);
    drop(proxy);
    let killed = Instant::now();
    let mut got = 5;
    eventually("its places are free", || {
        got += granted(&ask_all(&survivor, &host, 25, 25));
        got == 25
    });
    assert!(
        killed.elapsed() <= life + Duration::from_secs(2),
        "{:?}",
        killed.elapsed()
    );
    assert_eq!(redis.total(), 25);
}

#[test]
fn a_redis_killed_in_the_middle_of_it_all_neither_stops_the_fleet_nor_leaks_a_place() {
    let mut redis = Redis::start(&[]);
    let (address, tally) = target();
    let life = Duration::from_secs(60);
    let mut proxies: Vec<Proxy> = (0..3)
        .map(|_| Proxy::start(&redis, life, &format!("serve {address} 25 400")))
        .collect();
    for part in 1..4 {
        eventually("some are served", || {
            tally.all.load(Ordering::SeqCst) > part * 100
        });
        redis.kill();
        thread::sleep(Duration::from_millis(200));
        redis.run();
    }
    proxies.iter_mut().for_each(|proxy| proxy.hear("done"));
    let most = tally.most.load(Ordering::SeqCst);
    // While Redis is away, each keeps to its part: what is open and the parts of the others.
    assert!(most < 50, "{most} at once");
    assert_eq!(tally.all.load(Ordering::SeqCst), 1_200);
    assert!(redis.counters().is_empty(), "{:?}", redis.counters());
    let settings = redis.settings();
    let last = fleet(&settings);
    assert_eq!(granted(&ask_all(&last, &host(HOST), 25, 30)), 25);
}
