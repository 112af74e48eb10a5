//! Restarts of the real program: what it knows, whom it lets wait, and what its clients notice.

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use loadtest::mock::MockHandle;
use support::http::Client;
use support::program::{Program, command, slow_mock};
use support::{TOKEN, request};

const CHANNEL: u64 = 203_039_963_636_301_824;

/// A new folder for a state file.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("restart-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Listening sockets that outlive the programs that serve them, as systemd holds them.
struct Sockets {
    clients: TcpListener,
    metrics: TcpListener,
}

impl Sockets {
    fn open() -> Self {
        let open = || TcpListener::bind("127.0.0.1:0").expect("a port");
        Self {
            clients: open(),
            metrics: open(),
        }
    }

    fn addr(&self) -> SocketAddr {
        self.clients.local_addr().expect("bound")
    }

    fn start(&self, mock: &MockHandle, variables: &[(&str, &str)]) -> Program {
        Program::start_with(mock, variables, |command| self.hand_to(command))
    }

    /// Has a command started with these sockets, as systemd would.
    fn hand_to(&self, command: &mut Command) {
        let weir = command.get_program().to_owned();
        let mut shell = Command::new("sh");
        // The process's own number is known to itself alone before it is weir.
        shell
            .args(["-c", "export LISTEN_PID=$$; exec \"$0\""])
            .arg(weir);
        shell.env_clear().current_dir(env!("CARGO_TARGET_TMPDIR"));
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        shell.env("LISTEN_FDS", "2");
        shell.env("LISTEN_FDNAMES", "weir.socket:metrics");
        shell.stdin(Stdio::null());
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        let sockets = [self.clients.as_raw_fd(), self.metrics.as_raw_fd()];
        // SAFETY: between fork and exec only dup and dup2 are called, on descriptors that are open.
        unsafe {
            shell.pre_exec(move || {
                // Out of the way first: one of them may be 3 or 4 itself.
                let aside = sockets.map(|fd| libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 100));
                for (fd, to) in aside.into_iter().zip(3..) {
                    if fd < 0 || libc::dup2(fd, to) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        *command = shell;
    }
}

/// Clients that ask one after the other without a pause, and what they met.
struct Load {
    met: Arc<Met>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default, Debug)]
struct Met {
    stop: AtomicBool,
    served: AtomicU64,
    /// Weir's own 503s.
    sent_away: AtomicU64,
    limited: AtomicU64,
    /// Connections that were refused.
    refused: AtomicU64,
    /// Requests whose connection ended without an answer.
    lost: AtomicU64,
}

impl Load {
    /// `clients` of them, over two hundred channels.
    fn start(addr: SocketAddr, clients: u64) -> Self {
        let met = Arc::new(Met::default());
        let threads = (0..clients).map(|number| {
            let met = met.clone();
            thread::spawn(move || met.ask_on(addr, number))
        });
        Self {
            threads: threads.collect(),
            met,
        }
    }

    /// Waits until so many requests were served.
    fn wait_for(&self, served: u64) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.met.served.load(Ordering::SeqCst) < served {
            assert!(Instant::now() < until, "{:?}", self.met);
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn served(&self) -> u64 {
        self.met.served.load(Ordering::SeqCst)
    }

    fn stop(self) -> Met {
        self.met.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("a client");
        }
        Arc::into_inner(self.met).expect("the clients have ended")
    }
}

impl Met {
    fn ask_on(&self, addr: SocketAddr, first: u64) {
        let mut client = None;
        let mut number = first;
        while !self.stop.load(Ordering::SeqCst) {
            let connection = match client.take() {
                Some(connection) => connection,
                None => match Client::try_connect(addr) {
                    Ok(connection) => connection,
                    Err(_) => {
                        self.refused.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(Duration::from_millis(5));
                        continue;
                    }
                },
            };
            number += 7;
            client = self.ask(connection, number);
        }
    }

    /// Asks once; the connection, if it goes on.
    fn ask(&self, mut client: Client, number: u64) -> Option<Client> {
        let channel = CHANNEL + number % 200 * 1000;
        let path = format!("/api/v10/channels/{channel}/messages");
        let text = match number % 4 {
            0 => request("POST", &path, r#"{"content":"x"}"#),
            _ => request("GET", &path, ""),
        };
        let count = |count: &AtomicU64| count.fetch_add(1, Ordering::SeqCst);
        let Some(answer) = client.try_ask(&text) else {
            count(&self.lost);
            return None;
        };
        match answer.status {
            200 => count(&self.served),
            429 => count(&self.limited),
            503 => {
                thread::sleep(Duration::from_millis(50));
                count(&self.sent_away)
            }
            status => panic!("{status}: {}", answer.text()),
        };
        (answer.header("connection") != Some("close")).then_some(client)
    }
}

/// The 429s of a run in whose middle weir restarts, with all that two hundred channels and a global
/// limit can be asked for, and what the clients met.
fn restarted_under_load(state: Option<&str>) -> (u64, Met) {
    let (mock, sockets) = (slow_mock(2.0), Sockets::open());
    let mut variables = vec![("WORKERS", "2"), ("SHUTDOWN_TIMEOUT", "0")];
    variables.extend(state.map(|path| ("STATE_FILE", path)));
    let mut weir = sockets.start(&mock, &variables);
    let load = Load::start(sockets.addr(), 60);
    load.wait_for(200);
    // Those who wait are sent away at once, so that all limits are as used up as can be.
    weir.signal("TERM");
    assert_eq!(weir.wait(Duration::from_secs(10)).code(), Some(3));
    // Another number of workers, so that other shards own the buckets.
    variables[0] = ("WORKERS", "3");
    let _weir = sockets.start(&mock, &variables);
    load.wait_for(load.served() + 200);
    (mock.oracle().violations, load.stop())
}

#[test]
fn a_restart_under_load_draws_no_429_with_a_state_file() {
    let folder = folder("kept");
    let path = folder.join("state").to_string_lossy().into_owned();
    let (violations, met) = restarted_under_load(Some(&path));
    assert_eq!(violations, 0, "{met:?}");
    assert_eq!(met.limited.into_inner(), 0);
    assert!(
        met.sent_away.into_inner() > 0,
        "the restart met those who waited"
    );
    assert_eq!(met.refused.into_inner(), 0);
}

#[test]
fn a_restart_under_load_without_a_state_file_draws_429s() {
    let (violations, met) = restarted_under_load(None);
    assert!(violations > 0, "the other test proves nothing: {met:?}");
}

#[test]
fn restarts_on_inherited_sockets_refuse_reset_and_lose_nothing() {
    for driver in ["auto", "epoll"] {
        let folder = folder(&format!("sockets-{driver}"));
        let path = folder.join("state").to_string_lossy().into_owned();
        let (mock, sockets) = (slow_mock(5.0), Sockets::open());
        let variables = [
            ("WORKERS", "2"),
            ("IO_DRIVER", driver),
            ("STATE_FILE", path.as_str()),
        ];
        let mut weir = sockets.start(&mock, &variables);
        assert_eq!(weir.proxy, sockets.addr());
        let load = Load::start(sockets.addr(), 20);
        for _ in 0..3 {
            load.wait_for(load.served() + 40);
            weir.signal("TERM");
            assert_eq!(weir.wait(Duration::from_secs(40)).code(), Some(0));
            weir = sockets.start(&mock, &variables);
        }
        load.wait_for(load.served() + 40);
        let met = load.stop();
        let bad = [&met.refused, &met.lost, &met.sent_away, &met.limited];
        let bad = bad.map(|count| count.load(Ordering::SeqCst));
        assert_eq!(bad, [0; 4], "{driver}: {met:?}");
        assert_eq!(mock.oracle().violations, 0, "{driver}");
    }
}

#[test]
fn a_successor_may_start_before_the_end_of_its_predecessor() {
    let path = folder("successor").join("state");
    let path = path.to_string_lossy().into_owned();
    let (mock, sockets) = (slow_mock(5.0), Sockets::open());
    let variables = [
        ("WORKERS", "2"),
        ("LOG_LEVEL", "debug"),
        ("STATE_FILE", path.as_str()),
    ];
    let mut old = sockets.start(&mock, &variables);
    let load = Load::start(sockets.addr(), 10);
    for _ in 0..3 {
        load.wait_for(load.served() + 30);
        let new = sockets.start(&mock, &variables);
        old.signal("TERM");
        assert_eq!(old.wait(Duration::from_secs(40)).code(), Some(0));
        old = new;
    }
    load.wait_for(load.served() + 30);
    let met = load.stop();
    let bad = [&met.refused, &met.lost].map(|count| count.load(Ordering::SeqCst));
    assert_eq!(bad, [0; 2], "{met:?}");
}

#[test]
fn a_restart_on_a_port_of_its_own_refuses_connections_meanwhile() {
    let (mock, sockets) = (slow_mock(5.0), Sockets::open());
    let port = sockets.addr().port().to_string();
    let addr = sockets.addr();
    drop(sockets);
    let variables = [("WORKERS", "2"), ("PORT", port.as_str())];
    let mut weir = Program::start(&mock, &variables);
    let load = Load::start(addr, 20);
    load.wait_for(40);
    weir.signal("TERM");
    weir.wait(Duration::from_secs(40));
    let weir = Program::start(&mock, &variables);
    load.wait_for(load.served() + 20);
    assert!(
        load.stop().refused.into_inner() > 0,
        "the other test proves nothing"
    );
    drop(weir);
}

#[test]
fn sockets_are_told_apart_by_name_and_readiness_and_the_end_are_announced() {
    let folder = folder("notified");
    let notified = folder.join("notify");
    let socket = UnixDatagram::bind(&notified).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    let heard = || {
        let mut text = [0; 512];
        let len = socket.recv(&mut text).expect("a message");
        String::from_utf8_lossy(&text[..len]).into_owned()
    };
    let (mock, sockets) = (slow_mock(0.0), Sockets::open());
    let notified = notified.to_string_lossy().into_owned();
    let mut weir = sockets.start(&mock, &[("NOTIFY_SOCKET", &notified)]);
    assert!(heard().contains("READY=1\n"));
    assert_eq!(weir.proxy, sockets.addr());
    assert_eq!(weir.metrics, sockets.metrics.local_addr().expect("bound"));
    // An option of the socket itself, whoever looks.
    let unsent = socket2::SockRef::from(&sockets.clients).tcp_notsent_lowat();
    assert_eq!(unsent.expect("an option"), 128 * 1024);
    let answer = Client::connect(weir.metrics).ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(answer.status, 200);
    weir.signal("TERM");
    let text = heard();
    assert!(
        text.contains("STOPPING=1\n") && text.contains("EXTEND_TIMEOUT_USEC=40000000\n"),
        "{text}"
    );
    assert_eq!(weir.wait(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn a_socket_that_means_nothing_here_stops_the_start() {
    let sockets = Sockets::open();
    let mut command = command(&[]);
    sockets.hand_to(&mut command);
    command.env("LISTEN_FDNAMES", "weir.socket:metrcs");
    let output = command.output().expect("weir runs");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("LISTEN_FDS") && text.contains("metrcs"),
        "{text}"
    );
}

/// Seven posts to one channel: five go at once, two wait for a second and more.
fn two_wait(weir: &Program) -> Vec<Client> {
    let path = format!("/api/v10/channels/{CHANNEL}/messages");
    let post = request("POST", &path, r#"{"content":"x"}"#);
    for _ in 0..5 {
        assert_eq!(Client::connect(weir.proxy).ask(&post).status, 200);
    }
    let mut waiting: Vec<_> = (0..2).map(|_| Client::connect(weir.proxy)).collect();
    waiting.iter_mut().for_each(|client| client.send(&post));
    thread::sleep(Duration::from_millis(150));
    waiting
}

#[test]
fn who_still_waits_at_the_deadline_is_told_so_and_not_cut() {
    for driver in ["auto", "epoll"] {
        let mock = slow_mock(0.0);
        let variables = [
            ("WORKERS", "2"),
            ("SHUTDOWN_TIMEOUT", "100"),
            ("IO_DRIVER", driver),
        ];
        let mut weir = Program::start(&mock, &variables);
        let mut waiting = two_wait(&weir);
        weir.signal("TERM");
        for client in &mut waiting {
            let answer = client.answer(false);
            assert_eq!(answer.status, 503, "{}", answer.text());
            for (name, value) in [
                ("retry-after", "1"),
                ("via", "1.1 weir"),
                ("generated-by-proxy", "true"),
                ("connection", "close"),
            ] {
                assert_eq!(answer.header(name), Some(value), "{name}");
            }
        }
        assert_eq!(
            weir.wait(Duration::from_secs(5)).code(),
            Some(3),
            "{driver}"
        );
        assert_eq!(mock.oracle().violations, 0);
        assert_eq!(mock.arrivals("/messages").len(), 5, "none of them was sent");
    }
}

#[test]
fn with_nothing_to_finish_even_no_time_is_enough() {
    let mock = slow_mock(0.0);
    let mut weir = Program::start(&mock, &[("SHUTDOWN_TIMEOUT", "0")]);
    let mut idle = Client::connect(weir.proxy);
    assert_eq!(
        idle.ask(&request("GET", "/api/v10/gateway", "")).status,
        200
    );
    let silent = Client::connect(weir.proxy);
    weir.signal("TERM");
    assert_eq!(weir.wait(Duration::from_secs(5)).code(), Some(0));
    drop(silent);
}

#[test]
fn a_connection_in_use_is_answered_once_more_while_weir_drains() {
    for driver in ["auto", "epoll"] {
        let mock = slow_mock(0.0);
        let mut weir = Program::start(&mock, &[("WORKERS", "2"), ("IO_DRIVER", driver)]);
        let mut kept: Vec<_> = (0..8).map(|_| Client::connect(weir.proxy)).collect();
        let get = request("GET", "/api/v10/gateway", "");
        for client in &mut kept {
            assert_eq!(client.ask(&get).status, 200);
        }
        weir.signal("TERM");
        thread::sleep(Duration::from_millis(200));
        for client in &mut kept {
            let answer = client.ask(&get);
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("connection"), Some("close"));
        }
        assert_eq!(
            weir.wait(Duration::from_secs(5)).code(),
            Some(0),
            "{driver}"
        );
    }
}

#[test]
fn the_state_file_holds_no_token_and_is_its_owner_s_alone() {
    let folder = folder("secret");
    let path = folder.join("state");
    let mock = slow_mock(0.0);
    let mut weir = Program::start(&mock, &[("STATE_FILE", &path.to_string_lossy())]);
    let webhook = format!("/api/v10/webhooks/{CHANNEL}/planted-webhook-token-0123456789");
    for path in [&webhook, "/api/v10/users/@me"] {
        Client::connect(weir.proxy).ask(&request("GET", path, ""));
    }
    weir.signal("TERM");
    assert_eq!(weir.wait(Duration::from_secs(5)).code(), Some(0));
    let bytes = fs::read(&path).expect("a state file");
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = String::from_utf8_lossy(&bytes);
    for secret in [
        TOKEN.rsplit('.').next().expect("a token"),
        "planted",
        "MjAzMDM5OTYz",
    ] {
        assert!(!text.contains(secret), "{secret} is in the state file");
    }
    let id = CHANNEL.to_le_bytes();
    assert!(
        !bytes.windows(8).any(|window| window == id),
        "an id is in it"
    );
    assert!(bytes.len() > 100, "something was learned: {}", bytes.len());
}

#[test]
fn a_state_file_that_cannot_be_used_is_told_of_set_aside_and_never_fatal() {
    let folder = folder("broken");
    let path = folder.join("state");
    let mock = slow_mock(0.0);
    let name = path.to_string_lossy().into_owned();
    let variables = [("STATE_FILE", name.as_str())];
    let mut weir = Program::start(&mock, &variables);
    Client::connect(weir.proxy).ask(&request("GET", "/api/v10/users/@me", ""));
    weir.signal("TERM");
    weir.wait(Duration::from_secs(5));
    let good = fs::read(&path).expect("a state file");
    let mut newer = good.clone();
    newer[11] = 200;
    let mut bent = good.clone();
    let middle = bent.len() / 2;
    bent[middle] ^= 0x40;
    for (bytes, word) in [
        (Vec::new(), "damaged"),
        (good[..good.len() - 1].to_vec(), "damaged"),
        (bent, "damaged"),
        (newer, "newer weir"),
        (b"[Unit]\nDescription=x\n".to_vec(), "no state file"),
    ] {
        fs::write(&path, &bytes).expect("written");
        let mut weir = Program::start(&mock, &variables);
        let said = weir.before_serving.iter();
        let said: Vec<_> = said.filter(|line| line.contains("STATE_FILE")).collect();
        assert_eq!(said.len(), 1, "{said:#?}");
        assert!(
            said[0].contains(word) && said[0].contains("set aside"),
            "{said:?}"
        );
        let aside = folder.join("state.broken");
        assert_eq!(fs::read(aside).expect("set aside"), bytes);
        assert!(!path.exists());
        let answer = Client::connect(weir.proxy).ask(&request("GET", "/api/v10/gateway", ""));
        assert_eq!(answer.status, 200);
        weir.signal("TERM");
        assert_eq!(weir.wait(Duration::from_secs(5)).code(), Some(0));
        assert!(path.exists(), "a new one is written");
    }
    fs::write(&path, good).expect("written");
    let weir = Program::start(&mock, &variables);
    let said = weir.before_serving.join("\n");
    assert!(said.contains("restored from STATE_FILE"), "{said}");
}

#[test]
fn after_a_crash_nobody_believes_that_nothing_was_sent_since_the_last_orderly_end() {
    let folder = folder("crash");
    let name = folder.join("state").to_string_lossy().into_owned();
    let mock = slow_mock(0.0);
    let variables = [("STATE_FILE", name.as_str())];
    let restored = |weir: &Program, how: &str| {
        let said = weir.before_serving.join("\n");
        assert!(said.contains("restored from STATE_FILE"), "{said}");
        assert!(said.contains(how), "{said}");
    };
    let mut first = Program::start(&mock, &variables);
    let ask = request("GET", "/api/v10/users/@me", "");
    assert_eq!(Client::connect(first.proxy).ask(&ask).status, 200);
    first.signal("TERM");
    assert_eq!(first.wait(Duration::from_secs(5)).code(), Some(0));
    let mut second = Program::start(&mock, &variables);
    restored(&second, r#""complete":true"#);
    second.signal("KILL");
    second.wait(Duration::from_secs(5));
    restored(&Program::start(&mock, &variables), r#""complete":false"#);
}

#[test]
fn a_state_file_is_written_by_one_weir_at_a_time_and_the_next_says_who_that_is() {
    let mock = slow_mock(0.0);
    let path = folder("claimed").join("state");
    let name = path.to_string_lossy().into_owned();
    let variables = [("STATE_FILE", name.as_str())];
    let write = |weir: &Program| {
        let post = "POST /admin/state HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let answer = Client::connect(weir.metrics).ask(post);
        (answer.status, answer.text())
    };
    let mut first = Program::start(&mock, &variables);
    let mut second = Program::start(&mock, &variables);
    let holder = format!("process {}", first.pid());
    let told = |line: &String| line.contains("is another weir's") && line.contains(&holder);
    let said = &second.before_serving;
    assert_eq!(said.iter().filter(|line| told(line)).count(), 1, "{said:?}");
    let (status, text) = write(&second);
    assert!(status == 500 && text.contains(&holder), "{text}");
    assert!(!path.exists());
    assert_eq!(write(&first).0, 200);
    first.signal("TERM");
    assert_eq!(first.wait(Duration::from_secs(20)).code(), Some(0));
    let last_word = fs::read(&path).unwrap();
    assert_eq!(write(&second).0, 200, "it is free");
    assert_ne!(fs::read(&path).unwrap(), last_word);
    // One that is killed does not keep it.
    second.signal("KILL");
    second.wait(Duration::from_secs(20));
    let third = Program::start(&mock, &variables);
    assert_eq!(write(&third).0, 200);
}

#[test]
fn a_state_file_that_cannot_be_written_stops_the_start() {
    let output = command(&[("STATE_FILE", "/nowhere/state")])
        .output()
        .expect("weir runs");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let lines: Vec<_> = text.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].contains("STATE_FILE") && lines[0].contains("/nowhere/state"));
}
