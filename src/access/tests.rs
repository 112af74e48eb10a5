//! What is written, when, and what becomes of it when nobody reads.

use std::sync::mpsc;
use std::time::Instant;

use super::*;
use crate::http1::Method;
use crate::route::RouteText;
use crate::route::identity::Client;

const TEXT: Style = Style {
    format: LogFormat::Text,
    journal: false,
};

fn entry(status: u16) -> Entry {
    Entry {
        at_unix_ms: 0,
        method: Method::Get,
        route: RouteText::default(),
        status: Some(status),
        by: By::Discord,
        why: "",
        bot: Client::NoAuth,
        waited: Duration::ZERO,
        upstream: None,
        total: Duration::ZERO,
        bytes: 0,
        retries: 0,
        relayed: false,
        id: RequestId::Made {
            process: 1,
            number: 2,
        },
        from: None,
    }
}

/// Hands on what is written; writes only as long as somebody holds the other end.
struct Pipe(mpsc::SyncSender<String>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let sent = self.0.send(text);
        sent.map(|()| bytes.len())
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn lines_of_all_workers_are_written_and_the_last_ones_at_the_end() {
    let (to, written) = mpsc::sync_channel(1_000);
    let access = Access::start_to(AccessLog::ALL, TEXT, 2, Pipe(to)).unwrap();
    access.tell(0, 7, entry(200));
    let first = written.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(first.lines().count(), 1);
    for worker in [0, 1, 1, 0] {
        access.tell(worker, 7, entry(404));
    }
    drop(access);
    let rest: String = written.iter().collect();
    assert_eq!(rest.lines().count(), 4, "{rest}");
}

#[test]
fn only_what_is_asked_for_is_written() {
    let (to, written) = mpsc::sync_channel(1_000);
    let access = Access::start_to(AccessLog::ERRORS, TEXT, 1, Pipe(to)).unwrap();
    for status in [200, 404, 204, 503] {
        access.tell(0, 0, entry(status));
    }
    drop(access);
    let lines: String = written.iter().collect();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.contains("status=404") && lines.contains("status=503"));
    assert!(
        Access::start(AccessLog::default(), TEXT, 1)
            .unwrap()
            .is_none()
    );
}

#[test]
fn where_nobody_reads_lines_are_dropped_and_counted_and_the_worker_goes_on() {
    let (to, written) = mpsc::sync_channel(0);
    let access = Access::start_to(AccessLog::ALL, TEXT, 1, Pipe(to)).unwrap();
    // The writer is stuck with the first.
    access.tell(0, 0, entry(200));
    until("it is taken", || access.shared.lanes[0].lock().is_empty());
    let began = Instant::now();
    (0..LANE_MAX + 10).for_each(|_| access.tell(0, 0, entry(200)));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(access.counts(), (0, 10));
    // Whoever reads again gets the rest.
    let reader = thread::spawn(move || written.iter().map(|text| text.lines().count()).sum());
    until("all are written", || {
        access.counts().0 == 1 + LANE_MAX as u64
    });
    drop(access);
    let read: usize = reader.join().unwrap();
    assert_eq!(read, 1 + LANE_MAX);
}

#[test]
fn a_closed_pipe_costs_its_lines_and_nothing_else() {
    let (to, written) = mpsc::sync_channel(1);
    drop(written);
    let access = Access::start_to(AccessLog::ALL, TEXT, 1, Pipe(to)).unwrap();
    access.tell(0, 0, entry(200));
    until("it is counted", || access.counts() == (0, 1));
}

#[test]
fn the_journal_gets_priorities_and_has_times_of_its_own() {
    for (format, begins) in [
        (LogFormat::Text, "<6> INFO access method=GET"),
        (LogFormat::Json, "<6>{\"timestamp\":\"1970-01-01T"),
    ] {
        let (to, written) = mpsc::sync_channel(1_000);
        let style = Style {
            format,
            journal: true,
        };
        let access = Access::start_to(AccessLog::ALL, style, 1, Pipe(to)).unwrap();
        access.tell(0, 0, entry(200));
        drop(access);
        let line: String = written.iter().collect();
        assert!(line.starts_with(begins), "{line}");
    }
}
