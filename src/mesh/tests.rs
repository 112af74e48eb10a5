use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use super::{Asked, Grant, Local, Mesh, Request, Waiting};
use crate::clock::{self, Instant};
use crate::io::deadline::Alarm;
use crate::limit::{Answer, BucketKey, ClientClass, Refusal, Settings};

fn local(mesh: &Arc<Mesh>, worker: usize) -> Rc<Local> {
    Local::new(mesh.clone(), worker, Rc::new(Alarm::default()))
}

fn request(identity: u64, major: u64) -> Request {
    Request {
        key: BucketKey {
            identity,
            major,
            route: 7,
        },
        client: ClientClass::Bot { user_id: None },
        counts_globally: true,
        serial: true,
        max_wait: None,
    }
}

fn verdict(waiting: &mut Waiting) -> Option<Result<Grant, Refusal>> {
    match pin!(waiting.verdict()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verdict) => Some(verdict),
        Poll::Pending => None,
    }
}

fn go(asked: Asked) -> Grant {
    match asked {
        Asked::Go(grant) => grant,
        Asked::Wait(_) => panic!("it waits"),
        Asked::Refuse(refusal) => panic!("refused: {refusal:?}"),
    }
}

fn wait(asked: Asked) -> Waiting {
    match asked {
        Asked::Wait(waiting) => waiting,
        Asked::Go(_) => panic!("it may go"),
        Asked::Refuse(refusal) => panic!("refused: {refusal:?}"),
    }
}

fn census(mesh: &Mesh, now: Instant) -> (usize, usize) {
    let census = mesh.limiter.census(now);
    let waiting = census.waiting_for_bucket + census.waiting_for_global;
    (waiting, census.under_way)
}

#[test]
fn an_answer_on_one_worker_lets_a_request_of_another_go() {
    let mesh = Mesh::new(&Settings::default(), 2);
    let (here, there) = (local(&mesh, 0), local(&mesh, 1));
    let now = clock::now();
    // Unknown routes go one at a time, so the second waits for the first's answer.
    let first = go(here.ask(now, request(1, 1)));
    let mut second = wait(there.ask(now, request(1, 1)));
    assert!(verdict(&mut second).is_none());
    first.report(&Answer::new(200));
    assert!(verdict(&mut second).is_none(), "it is in the mailbox still");
    there.turn(clock::now());
    let grant = verdict(&mut second).expect("its turn").expect("a permit");
    drop(second);
    grant.report(&Answer::new(200));
    assert_eq!(census(&mesh, clock::now()), (0, 0));
    assert_eq!(mesh.counts().permits, 1, "one message between the workers");
}

#[test]
fn a_permit_for_a_request_that_left_goes_to_the_next() {
    let mesh = Mesh::new(&Settings::default(), 2);
    let (here, there) = (local(&mesh, 0), local(&mesh, 1));
    let now = clock::now();
    let first = go(here.ask(now, request(1, 1)));
    let left = wait(there.ask(now, request(1, 1)));
    let mut next = wait(here.ask(now, request(1, 1)));
    // The permit is on its way to the other worker when its client leaves.
    first.report(&Answer::new(200));
    drop(left);
    there.turn(clock::now());
    here.turn(clock::now());
    let grant = verdict(&mut next).expect("its turn").expect("a permit");
    grant.report(&Answer::new(200));
    assert_eq!(census(&mesh, clock::now()), (0, 0));
}

#[test]
fn a_request_that_leaves_before_its_turn_is_forgotten() {
    let mesh = Mesh::new(&Settings::default(), 1);
    let here = local(&mesh, 0);
    let now = clock::now();
    let first = go(here.ask(now, request(1, 1)));
    let left = wait(here.ask(now, request(1, 1)));
    drop(left);
    assert_eq!(census(&mesh, now), (0, 1));
    drop(first);
    assert_eq!(census(&mesh, now), (0, 0));
}

#[test]
fn mail_wakes_once_however_much_of_it_comes() {
    let mesh = Mesh::new(&Settings::default(), 2);
    let (here, there) = (local(&mesh, 0), local(&mesh, 1));
    assert!(!there.wake_by(Waker::noop()));
    let now = clock::now();
    let first: Vec<_> = (0..10)
        .map(|major| go(here.ask(now, request(major, major))))
        .collect();
    let mut others: Vec<_> = (0..10)
        .map(|major| wait(there.ask(now, request(major, major))))
        .collect();
    for grant in first {
        grant.report(&Answer::new(200));
    }
    let counts = mesh.counts();
    assert_eq!((counts.permits >= 10, counts.wakes), (true, 1));
    // Beside the permits there is word of deadlines.
    assert!(counts.sent >= counts.permits && counts.taken == 0);
    assert!(there.wake_by(Waker::noop()), "there is mail");
    there.turn(clock::now());
    here.turn(clock::now());
    assert!(!there.wake_by(Waker::noop()));
    assert_eq!(mesh.counts().taken, mesh.counts().sent);
    for waiting in &mut others {
        drop(verdict(waiting).expect("its turn").expect("a permit"));
    }
}

#[test]
fn a_permit_that_comes_with_the_word_to_wait_is_not_lost() {
    let settings = Settings {
        global_default: 2,
        ..Settings::default()
    };
    let mesh = Mesh::new(&settings, 1);
    let here = local(&mesh, 0);
    let now = clock::now();
    let sent = [1, 2].map(|major| go(here.ask(now, request(1, major))));
    let mut first = wait(here.ask(now, request(1, 3)));
    for grant in sent {
        grant.report(&Answer::new(200));
    }
    // The global window has passed, and the ticker has not come round yet: the newcomer has to
    // stand behind the one that waits, and both may go in the same moment.
    let later = clock::now() + Duration::from_secs(5);
    let mut second = wait(here.ask(later, request(1, 4)));
    for waiting in [&mut first, &mut second] {
        drop(verdict(waiting).expect("its turn").expect("a permit"));
    }
    assert_eq!(census(&mesh, later), (0, 0));
}

/// Every request that is asked for gets its verdict, on whatever worker and however the limits
/// interleave: none is lost between the shards, the mailboxes and the waiting list.
#[test]
fn no_request_is_lost_between_workers() {
    const WORKERS: usize = 4;
    const EACH: usize = 600;
    let settings = Settings {
        global_default: 400,
        ..Settings::default()
    };
    let mesh = Mesh::new(&settings, WORKERS);
    let running = AtomicUsize::new(WORKERS);
    let until = clock::now() + Duration::from_secs(60);
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (mesh, running) = (&mesh, &running);
            scope.spawn(move || {
                let local = local(mesh, worker);
                let mut waiting: HashMap<usize, Waiting> = HashMap::new();
                let mut asked = 0;
                while asked < EACH || !waiting.is_empty() {
                    let now = clock::now();
                    assert!(now < until, "{} never got a verdict", waiting.len());
                    if asked < EACH {
                        // Few identities and majors, so that workers meet in most of them.
                        let number = asked * WORKERS + worker;
                        let ask = request(number as u64 % 3, number as u64 % 11);
                        asked += 1;
                        match local.ask(now, ask) {
                            Asked::Go(grant) => drop(grant.report(&Answer::new(200))),
                            Asked::Refuse(refusal) => panic!("{refusal:?}"),
                            // Every seventh client leaves, some with a permit on its way.
                            Asked::Wait(request) if number.is_multiple_of(7) => drop(request),
                            Asked::Wait(request) => drop(waiting.insert(number, request)),
                        }
                    }
                    local.turn(now);
                    waiting.retain(|_, request| match verdict(request) {
                        None => true,
                        Some(Ok(grant)) => {
                            grant.report(&Answer::new(200));
                            false
                        }
                        Some(Err(refusal)) => panic!("{refusal:?}"),
                    });
                }
                // The timers of this worker's shard are still needed by the others.
                running.fetch_sub(1, Ordering::SeqCst);
                while running.load(Ordering::SeqCst) > 0 {
                    local.turn(clock::now());
                    thread::sleep(Duration::from_millis(1));
                }
                local.turn(clock::now());
            });
        }
    });
    assert_eq!(census(&mesh, clock::now()), (0, 0));
}
