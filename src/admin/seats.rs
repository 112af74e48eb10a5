//! The seats at the metrics port: so many connections at once, and no more threads than that.
//!
//! Whoever takes a seat and says nothing must not keep the scraper out. So, where all seats are taken, a
//! newcomer pushes out the one that has been silent longest; if none is, the one that has been reading
//! its answer longest, past a moment that every honest reader is done in.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Instant;

/// Connections served at once: a scraper, a browser, a few curious operators.
const SEATS: usize = 16;

/// Threads at once. Those that were pushed out may take a moment to notice.
const THREADS_MAX: usize = 2 * SEATS;

/// How long those that were pushed out are waited for, where there is no thread beside theirs.
const NOTICED_IN: Duration = Duration::from_millis(500);

/// Whoever is served for longer may be pushed out: the largest answer is written in some ms.
const SERVED_FOR: Duration = Duration::from_secs(2);

/// All of them.
pub(super) struct Seats {
    table: Mutex<Table>,
    /// A thread has ended.
    left: Condvar,
}

#[derive(Default)]
struct Table {
    /// Invariant: in the order in which they came, so that numbers ascend; at most [`SEATS`].
    seated: Vec<Seated>,
    next: u64,
    threads: usize,
}

struct Seated {
    number: u64,
    stream: Arc<TcpStream>,
    since: Instant,
    /// Its request is whole.
    heard: bool,
}

impl Seats {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::default(),
            left: Condvar::new(),
        })
    }

    /// A seat for a newcomer, if need be somebody else's.
    pub(super) fn take(self: &Arc<Self>, stream: TcpStream, now: Instant) -> Option<Seat> {
        // Those that were pushed out end in a moment, and the newcomer need not suffer for them.
        let full = |table: &mut Table| table.threads >= THREADS_MAX;
        let waited = self.left.wait_timeout_while(self.lock(), NOTICED_IN, full);
        let (mut table, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if table.threads >= THREADS_MAX {
            return None;
        }
        if table.seated.len() >= SEATS {
            let pushed = whom_to_push(&table.seated, now)?;
            let pushed = table.seated.remove(pushed);
            // If it fails, its client has ended it already.
            let _ = pushed.stream.shutdown(Shutdown::Both);
        }
        table.threads += 1;
        table.next += 1;
        let (number, stream) = (table.next, Arc::new(stream));
        table.seated.push(Seated {
            number,
            stream: stream.clone(),
            since: now,
            heard: false,
        });
        Some(Seat {
            seats: self.clone(),
            number,
            stream,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn whom_to_push(seated: &[Seated], now: Instant) -> Option<usize> {
    let silent = seated.iter().position(|seated| !seated.heard);
    silent.or_else(|| {
        seated
            .iter()
            .position(|seated| now.saturating_duration_since(seated.since) > SERVED_FOR)
    })
}

/// A connection's seat, given back when dropped.
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    stream: Arc<TcpStream>,
}

impl Seat {
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Its request is whole: it is silent no more.
    pub(super) fn heard(&self) {
        let mut table = self.seats.lock();
        let own = |seated: &&mut Seated| seated.number == self.number;
        if let Some(seated) = table.seated.iter_mut().find(own) {
            seated.heard = true;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.seats.lock();
        table.threads -= 1;
        self.seats.left.notify_one();
        table.seated.retain(|seated| seated.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    const START: Instant = Instant::from_millis(1_000);

    struct Door {
        listener: TcpListener,
        seats: Arc<Seats>,
    }

    impl Door {
        fn new() -> Self {
            Self {
                listener: TcpListener::bind("127.0.0.1:0").unwrap(),
                seats: Seats::new(),
            }
        }

        fn knock(&self, now: Instant) -> (TcpStream, Option<Seat>) {
            let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
            let (served, _) = self.listener.accept().unwrap();
            (client, self.seats.take(served, now))
        }

        fn full(&self) -> Vec<(TcpStream, Seat)> {
            let seated = (0..SEATS).map(|_| self.knock(START));
            seated
                .map(|(client, seat)| (client, seat.unwrap()))
                .collect()
        }
    }

    fn is_pushed_out(mut client: &TcpStream) -> bool {
        client.set_nonblocking(true).unwrap();
        matches!(client.read(&mut [0]), Ok(0))
    }

    #[test]
    fn a_newcomer_pushes_out_the_one_that_has_been_silent_longest() {
        let door = Door::new();
        let seated = door.full();
        seated[0].1.heard();
        let (_client, seat) = door.knock(START);
        assert!(seat.is_some());
        assert!(is_pushed_out(&seated[1].0), "silent, and the first of them");
        for (client, _) in seated[..1].iter().chain(&seated[2..]) {
            assert!(!is_pushed_out(client));
        }
    }

    #[test]
    fn who_is_being_served_has_time_for_it() {
        let door = Door::new();
        let seated = door.full();
        for (_, seat) in &seated {
            seat.heard();
        }
        assert!(door.knock(START + SERVED_FOR).1.is_none());
        let later = START + SERVED_FOR + Duration::from_millis(1);
        let (_client, seat) = door.knock(later);
        assert!(seat.is_some());
        assert!(is_pushed_out(&seated[0].0));
    }

    #[test]
    fn a_seat_comes_back_and_threads_are_bounded_whoever_is_pushed_out() {
        let door = Door::new();
        let mut seated = door.full();
        drop(seated.pop());
        let (_client, seat) = door.knock(START);
        let _seat = seat.unwrap();
        assert!(!seated.iter().any(|(client, _)| is_pushed_out(client)));
        let mut held: Vec<_> = (SEATS..THREADS_MAX).map(|_| door.knock(START)).collect();
        assert!(held.iter().all(|(_, seat)| seat.is_some()));
        assert!(door.knock(START).1.is_none(), "none of them has ended yet");
        held.pop();
        assert!(door.knock(START).1.is_some());
        assert!(
            door.knock(START).1.is_some(),
            "the one before has left again"
        );
        let _last = door.knock(START);
        let leaves = held.pop();
        let began = std::time::Instant::now();
        let leaving = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(leaves);
        });
        assert!(door.knock(START).1.is_some(), "it waits for a thread");
        assert!(began.elapsed() < NOTICED_IN);
        leaving.join().unwrap();
    }
}
