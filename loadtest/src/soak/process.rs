//! The weir under test: a process of its own, and what it holds, seen from outside.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::Options;
use crate::client::{Client, Target};
use crate::load::process::{cpu_clock, resident_bytes};
use crate::mock::MockHandle;

/// How long weir may take to say where it serves.
const START: Duration = Duration::from_secs(20);

/// A running weir; killed when dropped.
#[derive(Debug)]
pub(super) struct Weir {
    child: Child,
    folder: PathBuf,
    log: PathBuf,
    pub(super) proxy: SocketAddr,
    metrics: SocketAddr,
}

/// What it holds at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sample {
    /// Time since the start of the run.
    pub at: Duration,
    /// Memory that it holds in bytes, by its own count.
    pub held: u64,
    /// Resident memory in bytes.
    pub rss: u64,
    /// Open descriptors.
    pub fds: u64,
    /// Threads.
    pub threads: u64,
    /// Polls that its rings hold armed; zero with epoll.
    pub polls: u64,
    /// Client connections, by its own count.
    pub clients: i64,
    /// Requests under way, by its own count.
    pub open: i64,
    /// Requests that wait for a limit, by its own count.
    pub waiting: i64,
    /// Upstream connections, by its own count.
    pub upstream: i64,
}

impl Weir {
    /// Starts it before `mock`, bounded so that a run meets the bounds.
    pub(super) fn start(options: &Options, program: &Path, mock: &MockHandle) -> io::Result<Self> {
        let name = format!("weir-soak-{}-{}", std::process::id(), options.seed);
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        let (ca, log) = (folder.join("ca.pem"), folder.join("weir.log"));
        fs::write(&ca, &mock.ca_pem)?;
        let file = fs::File::create(&log)?;
        let mut command = Command::new(program);
        command.env_clear().current_dir(&folder).envs([
            ("BIND_IP", "127.0.0.1".to_owned()),
            ("PORT", "0".to_owned()),
            ("METRICS_PORT", "0".to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
            ("WORKERS", "2".to_owned()),
            ("IO_DRIVER", options.driver.clone()),
            ("UPSTREAM_URL", mock.url()),
            ("MAX_WAIT", super::MAX_WAIT.as_millis().to_string()),
            (
                "REQUEST_TIMEOUT",
                super::REQUEST_TIMEOUT.as_millis().to_string(),
            ),
            (
                "UPSTREAM_IDLE_TIMEOUT",
                super::UPSTREAM_IDLE.as_millis().to_string(),
            ),
            (
                "CLIENT_IDLE_TIMEOUT",
                super::CLIENT_IDLE.as_millis().to_string(),
            ),
            ("MAX_BUCKETS", super::BUCKETS_MAX.to_string()),
            ("UPSTREAM_MAX_CONNECTIONS", super::UPSTREAM_MAX.to_string()),
        ]);
        command.env("UPSTREAM_CA_FILE", &ca);
        command.stdin(Stdio::null());
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn()?;
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut weir = Self {
            child,
            folder,
            log,
            proxy: nowhere,
            metrics: nowhere,
        };
        let until = Instant::now() + START;
        loop {
            weir.check()?;
            let said = weir.said();
            if let Some(line) = said.lines().find(|line| line.contains("weir serves")) {
                weir.proxy = address(line, "proxy")?;
                weir.metrics = address(line, "metrics")?;
                return Ok(weir);
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!("weir does not serve: {said}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// An error once it has ended.
    pub(super) fn check(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let said = self.said();
                let last = said.lines().last().unwrap_or("nothing").to_owned();
                Err(io::Error::other(format!(
                    "weir ended with {status}: {last}"
                )))
            }
        }
    }

    /// All that it logged.
    pub(super) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// CPU time so far.
    pub(super) fn cpu(&self) -> io::Result<Duration> {
        cpu_clock(self.child.id())
    }

    /// What it holds now.
    pub(super) fn sample(&self, at: Duration) -> io::Result<Sample> {
        let pid = self.child.id();
        // Before a connection is opened to ask it for the rest.
        let fds = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
        let threads = fs::read_dir(format!("/proc/{pid}/task"))?.count() as u64;
        let gauges = self.gauges()?;
        let of = |name: &str| gauges.get(name).copied().unwrap_or(0);
        Ok(Sample {
            at,
            held: u64::try_from(of("weir_memory_held_bytes")).unwrap_or(0),
            rss: resident_bytes(pid)?.0,
            fds,
            threads,
            polls: polls(pid),
            clients: of("weir_client_connections"),
            open: of("nirn_proxy_open_connections"),
            waiting: of("weir_requests_waiting"),
            upstream: of("weir_upstream_connections_opened_total")
                - of("weir_upstream_connections_closed_total"),
        })
    }

    /// Where it tells its metrics.
    pub(super) fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// Its metrics, each name's series added up.
    fn gauges(&self) -> io::Result<BTreeMap<String, i64>> {
        let text = scrape(self.metrics)?;
        let mut sums = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let name = name.split('{').next().unwrap_or(name);
            *sums.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap_or(0.0) as i64;
        }
        Ok(sums)
    }

    /// Tells it to end, and waits for that.
    pub(super) fn terminate(&mut self, within: Duration) -> io::Result<ExitStatus> {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > until {
                return Err(io::Error::other("it does not end after SIGTERM"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // That it has ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The metrics at `addr`, as text.
pub(super) fn scrape(addr: SocketAddr) -> io::Result<String> {
    let mut client = Client::connect(&Target::plain(addr))?;
    let answer = client.request("GET", "/metrics", &[("Connection", "close")], b"")?;
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// Polls that the rings of a process hold armed, as the kernel tells (`fdinfo`, since Linux 5.x).
fn polls(pid: u32) -> u64 {
    let folder = format!("/proc/{pid}/fd");
    let Ok(entries) = fs::read_dir(&folder) else {
        return 0;
    };
    let rings = entries.flatten().filter(|entry| {
        fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().contains("io_uring"))
    });
    let mut count = 0;
    for ring in rings {
        let file = format!("/proc/{pid}/fdinfo/{}", ring.file_name().to_string_lossy());
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines = text
            .lines()
            .skip_while(|line| !line.starts_with("PollList"));
        count += lines
            .skip(1)
            .take_while(|line| line.starts_with(' '))
            .count() as u64;
    }
    count
}

/// The address behind `key` in a line of the JSON log.
fn address(line: &str, key: &str) -> io::Result<SocketAddr> {
    let wrong = || io::Error::other(format!("no {key} in {line}"));
    let json: serde_json::Value = serde_json::from_str(line).map_err(|_| wrong())?;
    let fields = json.get("fields").unwrap_or(&json);
    let text = fields
        .get(key)
        .and_then(|value| value.as_str())
        .ok_or_else(wrong)?;
    text.parse().map_err(|_| wrong())
}
