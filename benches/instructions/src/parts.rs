//! The parts that are counted, each a loop over its operation.
//!
//! A part prepares the same whatever number of operations it is asked for, so that the difference
//! of two runs is operations alone.

use std::hint::black_box;

use weir::http1::{Method, RequestHead};
use weir::limit::Answer;

use crate::heads;
use crate::path::{self, Asker, BUCKETS, Worker};

/// Operations of the shorter run; the longer has twice as many. Whole rounds over the buckets, and
/// enough that what comes once in a while, such as a tick of a timer, counts with its share.
pub(crate) const OPERATIONS: usize = 8 * BUCKETS;
/// Operations before the first that counts: what is unknown at first has become known.
const WARM: usize = 2 * BUCKETS;

/// One part.
pub(crate) struct Part {
    /// Its row in the table.
    pub(crate) name: &'static str,
    /// Runs it so many times.
    pub(crate) run: fn(usize),
}

/// All parts, in the order of a request.
pub(crate) const PARTS: [Part; 11] = [
    Part {
        name: "request head: parse",
        run: parse_request,
    },
    Part {
        name: "route, identity and keys",
        run: route,
    },
    Part {
        name: "request head: rewrite",
        run: rewrite_request,
    },
    Part {
        name: "limiter: acquire and report",
        run: limit,
    },
    Part {
        name: "limiter: wait and be let go",
        run: wait,
    },
    Part {
        name: "answer head: parse",
        run: parse_answer,
    },
    Part {
        name: "answer head: learn",
        run: learn,
    },
    Part {
        name: "answer head: rewrite",
        run: rewrite_answer,
    },
    Part {
        name: "metrics: open, close, record",
        run: measure,
    },
    Part {
        name: "whole path, GET",
        run: whole_get,
    },
    Part {
        name: "whole path, POST",
        run: whole_post,
    },
];

fn requests(make: fn(u64) -> Vec<u8>) -> Vec<Vec<u8>> {
    (0..BUCKETS).map(|at| make(path::channel(at))).collect()
}

/// Answers for the longest run, however many are used.
fn answers(remaining: u16) -> Vec<Vec<u8>> {
    (0..WARM + 2 * OPERATIONS)
        .map(|at| path::answer(at, remaining))
        .collect()
}

fn heads_of(requests: &[Vec<u8>]) -> Vec<RequestHead<'_>> {
    requests.iter().map(|it| path::read_request(it)).collect()
}

fn askers(worker: &Worker, requests: &[Vec<u8>]) -> Vec<Asker> {
    let heads = heads_of(requests);
    heads
        .iter()
        .map(|head| worker.route(head, path::begin(0)))
        .collect()
}

fn learned(remaining: u16) -> Vec<Answer> {
    answers(remaining)
        .iter()
        .map(|bytes| path::learn(&path::read_answer(bytes, Method::Get)))
        .collect()
}

fn parse_request(operations: usize) {
    let requests = requests(heads::get);
    for at in 0..operations {
        black_box(path::read_request(&requests[at % BUCKETS]));
    }
}

fn route(operations: usize) {
    let worker = Worker::new();
    let requests = requests(heads::get);
    let heads = heads_of(&requests);
    for at in 0..operations {
        black_box(worker.route(&heads[at % BUCKETS], path::begin(at)));
    }
}

fn rewrite_request(operations: usize) {
    let mut worker = Worker::new();
    let requests = requests(heads::get);
    let heads = heads_of(&requests);
    for at in 0..operations {
        worker.rewrite_request(&heads[at % BUCKETS]);
    }
}

fn limit(operations: usize) {
    let mut worker = Worker::new();
    let askers = askers(&worker, &requests(heads::get));
    let answers = learned(4);
    for at in 0..WARM + operations {
        worker.limit(at, &askers[at % BUCKETS], &answers[at]);
    }
}

fn wait(operations: usize) {
    let mut worker = Worker::new();
    let askers = askers(&worker, &requests(heads::post));
    let answers: Vec<_> = learned(4)
        .into_iter()
        .zip(learned(3))
        .map(|(first, second)| [first, second])
        .collect();
    for at in 0..WARM + operations {
        worker.limit_two(at, &askers[at % BUCKETS], &answers[at]);
    }
}

fn parse_answer(operations: usize) {
    let answers = answers(4);
    for bytes in &answers[..operations] {
        black_box(path::read_answer(bytes, Method::Get));
    }
}

fn learn(operations: usize) {
    let answers = answers(4);
    let heads: Vec<_> = answers
        .iter()
        .map(|bytes| path::read_answer(bytes, Method::Get))
        .collect();
    for head in &heads[..operations] {
        black_box(path::learn(black_box(head)));
    }
}

fn rewrite_answer(operations: usize) {
    let mut worker = Worker::new();
    let requests = requests(heads::get);
    let request = path::read_request(&requests[0]);
    let answers = answers(4);
    let heads: Vec<_> = answers
        .iter()
        .map(|bytes| path::read_answer(bytes, Method::Get))
        .collect();
    for head in &heads[..operations] {
        worker.rewrite_answer(head, &request);
    }
}

fn measure(operations: usize) {
    let mut worker = Worker::new();
    let askers = askers(&worker, &requests(heads::get));
    worker.measure(&askers[0], Method::Get, 200);
    for at in 0..operations {
        worker.measure(&askers[at % BUCKETS], Method::Get, 200);
    }
}

fn whole_get(operations: usize) {
    whole(&requests(heads::get), operations);
}

fn whole_post(operations: usize) {
    whole(&requests(heads::post), operations);
}

fn whole(requests: &[Vec<u8>], operations: usize) {
    let mut worker = Worker::new();
    let answers = answers(4);
    for at in 0..WARM + operations {
        worker.exchange(at, &requests[at % BUCKETS], &answers[at]);
    }
}
