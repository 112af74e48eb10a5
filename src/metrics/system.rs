//! The process and its workers in numbers: what the kernel counts, and what the mesh does.

use std::time::Duration;

use super::text::{Family, Kind, Seconds};

/// What one process uses. What could not be read is `None` and left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct System {
    /// The processor that it was built for.
    pub arch: &'static str,
    /// The I/O driver's name.
    pub driver: &'static str,
    /// When it started, Unix milliseconds.
    pub started_unix_ms: u64,
    /// Processor time.
    pub cpu: Duration,
    /// Bytes that the program holds.
    pub memory_held: Option<u64>,
    /// Bytes that are resident.
    pub memory_resident: Option<u64>,
    /// Bytes of address space.
    pub memory_virtual: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// Descriptors that may be open.
    pub max_fds: Option<u64>,
    /// Of each worker.
    pub workers: Vec<WorkerUse>,
    /// What workers have for each other.
    pub handed: HandOffs,
    /// Requests that are under way, those that wait among them.
    pub requests_under_way: u64,
    /// Connections of clients that there may be.
    pub clients_max: u64,
}

/// What one worker uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WorkerUse {
    /// Turns of its ticker.
    pub turns: u64,
    /// Processor time of its thread.
    pub cpu: Option<Duration>,
}

/// What workers have handed each other since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HandOffs {
    /// Permits for requests of another worker.
    pub permits: u64,
    /// Messages of all kinds, permits among them.
    pub sent: u64,
    /// Messages that were taken.
    pub taken: u64,
    /// Times that a worker was woken for it.
    pub wakes: u64,
}

impl HandOffs {
    /// Adds another worker's.
    pub fn add(&mut self, other: Self) {
        self.permits += other.permits;
        self.sent += other.sent;
        self.taken += other.taken;
        self.wakes += other.wakes;
    }
}

impl System {
    /// Appends everything to `out` in the text format 0.0.4.
    pub fn encode(&self, out: &mut String) {
        let family = |name, help, kind| Family { name, help, kind };
        let build = family(
            "weir_build_info",
            "1, labelled with the version of weir and the processor it was built for",
            Kind::Gauge,
        );
        build.head(out);
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("arch", self.arch)];
        build.sample(out, "", &labels, 1);
        family(
            "weir_io_driver_info",
            "1, labelled with how weir speaks to the kernel: io_uring, or epoll where that is refused",
            Kind::Gauge,
        )
        .by(out, "driver", &[(self.driver, 1)]);
        for (name, help, value) in [
            (
                "weir_requests_under_way",
                "Requests of clients that are under way now, those that wait for a limit among them",
                self.requests_under_way,
            ),
            (
                "weir_client_connections_max",
                "Connections of clients that there may be at a time (MAX_CONNECTIONS, as descriptors allow)",
                self.clients_max,
            ),
            ("weir_workers", "Worker threads", self.workers.len() as u64),
        ] {
            family(name, help, Kind::Gauge).one(out, value);
        }
        self.encode_workers(out);
        self.encode_process(out);
    }

    fn encode_workers(&self, out: &mut String) {
        let counter = |name, help| Family {
            name,
            help,
            kind: Kind::Counter,
        };
        let turns = counter(
            "weir_worker_turns_total",
            "Turns of each worker's loop; each scrape wakes every worker, so one that does not turn is stuck",
        );
        turns.head(out);
        for (at, worker) in self.workers.iter().enumerate() {
            turns.sample(out, "", &[("worker", &at.to_string())], worker.turns);
        }
        let cpu = counter(
            "weir_worker_cpu_seconds_total",
            "Processor time of each worker's thread; a worker that uses a whole second a second is full",
        );
        cpu.head(out);
        for (at, worker) in self.workers.iter().enumerate() {
            if let Some(used) = worker.cpu {
                cpu.sample(out, "", &[("worker", &at.to_string())], micros(used));
            }
        }
        let HandOffs {
            permits,
            sent,
            taken,
            wakes,
        } = self.handed;
        counter(
            "weir_permits_handed_total",
            "Permits that the worker with a bucket sent to the worker with the request",
        )
        .one(out, permits);
        counter(
            "weir_worker_messages_total",
            "Messages between workers: sent, and taken by whom they were for",
        )
        .by(out, "direction", &[("sent", sent), ("taken", taken)]);
        counter(
            "weir_worker_wakeups_total",
            "Times that a message woke a worker",
        )
        .one(out, wakes);
    }

    fn encode_process(&self, out: &mut String) {
        Family {
            name: "process_cpu_seconds_total",
            help: "Processor time of the process, in user and kernel mode",
            kind: Kind::Counter,
        }
        .one(out, micros(self.cpu));
        let started = Seconds(self.started_unix_ms.saturating_mul(1_000));
        let gauge = |name, help| Family {
            name,
            help,
            kind: Kind::Gauge,
        };
        gauge(
            "process_start_time_seconds",
            "When weir started, in seconds since 1970",
        )
        .one(out, started);
        for (name, help, value) in [
            (
                "process_open_fds",
                "File descriptors that are open",
                self.open_fds,
            ),
            (
                "process_max_fds",
                "File descriptors that may be open (LimitNOFILE, ulimit -n)",
                self.max_fds,
            ),
            (
                "process_resident_memory_bytes",
                "Memory that is resident, the allocator's reserve included",
                self.memory_resident,
            ),
            (
                "process_virtual_memory_bytes",
                "Address space, most of which is no memory",
                self.memory_virtual,
            ),
            (
                "weir_memory_held_bytes",
                "Memory that weir has asked for and not given back: what grows here for ever is a leak",
                self.memory_held,
            ),
        ] {
            if let Some(value) = value {
                gauge(name, help).one(out, value);
            }
        }
    }
}

fn micros(time: Duration) -> Seconds {
    Seconds(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_written_and_the_rest_left_out() {
        let worker = |turns, millis| WorkerUse {
            turns,
            cpu: Some(Duration::from_millis(millis)),
        };
        let system = System {
            arch: "z80",
            driver: "epoll",
            started_unix_ms: 1_700_000_000_123,
            cpu: Duration::from_millis(2_500),
            memory_held: None,
            memory_resident: Some(1),
            memory_virtual: Some(2),
            open_fds: Some(3),
            max_fds: Some(4),
            workers: vec![worker(5, 600), worker(7, 800)],
            handed: HandOffs {
                permits: 9,
                sent: 10,
                taken: 11,
                wakes: 12,
            },
            requests_under_way: 13,
            clients_max: 14,
        };
        let mut text = String::new();
        system.encode(&mut text);
        for line in [
            "weir_io_driver_info{driver=\"epoll\"} 1",
            "weir_workers 2",
            "weir_worker_turns_total{worker=\"0\"} 5",
            "weir_worker_turns_total{worker=\"1\"} 7",
            "weir_worker_cpu_seconds_total{worker=\"1\"} 0.800000",
            "weir_permits_handed_total 9",
            "weir_worker_messages_total{direction=\"sent\"} 10",
            "weir_worker_messages_total{direction=\"taken\"} 11",
            "weir_worker_wakeups_total 12",
            "weir_requests_under_way 13",
            "weir_client_connections_max 14",
            "process_cpu_seconds_total 2.500000",
            "process_start_time_seconds 1700000000.123000",
            "process_resident_memory_bytes 1",
            "process_virtual_memory_bytes 2",
            "process_open_fds 3",
            "process_max_fds 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("weir_memory_held_bytes"));
        assert!(text.contains("\",arch=\"z80\"} 1\n"), "{text}");
    }
}
