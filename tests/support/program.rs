//! The `weir` program itself, as a process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use loadtest::mock::settings::Settings;
use loadtest::mock::{self, MockConfig, MockHandle};

use super::{ca_file, resident_bytes};

/// A running `weir`; killed when dropped.
pub struct Program {
    pub proxy: SocketAddr,
    pub metrics: SocketAddr,
    /// Where shards ask, if they can.
    pub queue: Option<SocketAddr>,
    /// The forward proxy, if there is one.
    pub forward: Option<SocketAddr>,
    /// What it logged before it said that it serves.
    pub before_serving: Vec<String>,
    child: Child,
    log: mpsc::Receiver<String>,
}

/// A mock that answers this late.
pub fn slow_mock(latency_ms: f64) -> MockHandle {
    let settings = Settings {
        latency_ms,
        ..Settings::default()
    };
    mock::start(MockConfig {
        settings,
        ..MockConfig::default()
    })
    .expect("the mock starts")
}

/// A `weir` command with no environment but what is given.
pub fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env_clear().current_dir(env!("CARGO_TARGET_TMPDIR"));
    command.envs([
        ("PORT", "0"),
        ("METRICS_PORT", "0"),
        ("BIND_IP", "127.0.0.1"),
    ]);
    command.envs(variables.iter().copied());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Has the kernel refuse io_uring to the process, as a container's filter does.
pub fn refuse_io_uring(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    const IO_URING_SETUP: u32 = 425;
    let statement = |code, k| libc::sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    let filter = [
        // Load the number of the system call; if it is io_uring_setup, fail with EPERM.
        statement((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: IO_URING_SETUP,
        },
        statement(
            (libc::BPF_RET | libc::BPF_K) as u16,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        ),
        statement(
            (libc::BPF_RET | libc::BPF_K) as u16,
            libc::SECCOMP_RET_ALLOW,
        ),
    ];
    // SAFETY: between fork and exec only prctl is called, on data that was moved in.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog {
                len: filter.len() as u16,
                filter: filter.as_ptr().cast_mut(),
            };
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                ) != 0
            {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

impl Program {
    /// Starts weir before `mock`.
    pub fn start(mock: &MockHandle, variables: &[(&str, &str)]) -> Self {
        Self::start_with(mock, variables, |_| ())
    }

    /// Starts weir before `mock`, by a command that `change` has the last word on.
    pub fn start_with(
        mock: &MockHandle,
        variables: &[(&str, &str)],
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let url = mock.url();
        let ca = ca_file(mock).map(|path| path.to_string_lossy().into_owned());
        let mut all = vec![
            ("UPSTREAM_URL", url.as_str()),
            ("LOG_FORMAT", "json"),
            ("DISABLE_GLOBAL_RATELIMIT_DETECTION", "true"),
        ];
        if let Some(ca) = &ca {
            all.push(("UPSTREAM_CA_FILE", ca));
        }
        all.extend_from_slice(variables);
        let mut command = command(&all);
        change(&mut command);
        let mut child = command.spawn().expect("weir starts");
        let (lines, log) = mpsc::channel();
        for output in [
            child
                .stdout
                .take()
                .map(|out| Box::new(out) as Box<dyn std::io::Read + Send>),
            child
                .stderr
                .take()
                .map(|err| Box::new(err) as Box<dyn std::io::Read + Send>),
        ]
        .into_iter()
        .flatten()
        {
            let lines = lines.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if lines.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let mut seen = Vec::new();
        let (proxy, metrics, forward, queue) = loop {
            let line = log
                .recv_timeout(Duration::from_secs(20))
                .unwrap_or_else(|_| {
                    panic!("weir did not say that it serves: {seen:#?}");
                });
            if line.contains("weir serves") {
                let queue = line
                    .contains("gateway_queue")
                    .then(|| address(&line, "gateway_queue"));
                let forward = line.contains("forward").then(|| address(&line, "forward"));
                let metrics = address(&line, "metrics");
                break (address(&line, "proxy"), metrics, forward, queue);
            }
            seen.push(line);
        };
        Self {
            proxy,
            metrics,
            queue,
            forward,
            before_serving: seen,
            child,
            log,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    /// Waits for the end.
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let until = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(
                Instant::now() < until,
                "weir did not end: {:#?}",
                self.log_lines()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What weir has logged since it said that it serves.
    pub fn log_lines(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    /// Watches the process's resident memory.
    pub fn watch_memory(&self) -> Peak {
        let (peak, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let pid = self.pid();
        let thread = thread::spawn({
            let (peak, stop) = (peak.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    peak.fetch_max(resident_bytes(pid), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Peak { peak, stop, thread }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The highest resident memory seen.
pub struct Peak {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Peak {
    /// Stops watching.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watcher");
        self.peak.load(Ordering::Relaxed)
    }
}

/// The address behind `key` in a line of the log, JSON or text.
fn address(line: &str, key: &str) -> SocketAddr {
    let rest = line
        .split_once(&format!("\"{key}\":"))
        .or_else(|| line.split_once(&format!("{key}=")))
        .unwrap_or_else(|| panic!("{key} in {line}"))
        .1;
    let text: String = rest
        .chars()
        .skip_while(|c| *c == '"')
        .take_while(|c| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '[' | ']'))
        .collect();
    text.parse()
        .unwrap_or_else(|_| panic!("an address in {line}"))
}
