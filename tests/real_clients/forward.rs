//! Clients of the forward proxy: curl, Python's requests, undici's ProxyAgent, each to a TLS server and
//! to a plain one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use loadtest::mock::settings::Settings;
use loadtest::mock::tls::Tls;
use loadtest::mock::{self, MockConfig, MockHandle};
use weir::ForwardProxy;
use weir::config::IoDriver;
use weir::egress::Options;

use super::stage::BOT_TOKEN;

/// Who may use the proxy.
const USER: &str = "someone:open sesame";

/// A forward proxy that asks for credentials, and two servers that it may reach.
pub(super) struct Forward {
    secure: MockHandle,
    plain: MockHandle,
    proxy: ForwardProxy,
    ca_file: PathBuf,
}

impl Forward {
    pub(super) fn start(workers: usize, io_driver: IoDriver) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = |kind: &str, content: &str| {
            let path = base.join(format!("forward-{}-{number}.{kind}", std::process::id()));
            fs::write(&path, content).unwrap();
            path
        };
        let server = |tls| {
            let settings = Settings::unlimited();
            mock::start(MockConfig {
                tls,
                settings,
                ..MockConfig::default()
            })
            .unwrap()
        };
        let (secure, plain) = (server(Tls::Valid), server(Tls::Plain));
        let mut options = Options {
            workers,
            io_driver,
            ..Options::default()
        };
        options.settings.allow = Some("127.0.0.0/8,::1".parse().unwrap());
        options.settings.credentials_file = Some(file("users", &format!("{USER}\n")));
        options.settings.max_connections = 25;
        options.settings.queue_timeout = Some(Duration::from_secs(10));
        Self {
            proxy: ForwardProxy::start(options).unwrap(),
            ca_file: file("pem", &secure.ca_pem),
            secure,
            plain,
        }
    }

    /// Runs a script, which says `ok` at its end.
    pub(super) fn play(&self, mut script: Command) {
        let (addr, secure) = (self.proxy.addr(), self.secure_url());
        let output = script
            .env("PROXY", format!("http://someone:open%20sesame@{addr}"))
            .env("WRONG_PROXY", format!("http://someone:else@{addr}"))
            .env("PROXY_HOST", addr.to_string())
            .env("PROXY_AUTH", USER)
            .env("SECURE_URL", secure)
            .env("PLAIN_URL", self.plain.url())
            .env("CA_FILE", &self.ca_file)
            .env("TOKEN", format!("Bot {BOT_TOKEN}"))
            .output()
            .unwrap_or_else(|error| panic!("{script:?} cannot be run: {error}"));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.ends_with("ok\n"),
            "{script:?}: {}\n{said}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        self.verdict();
    }

    /// curl, as somebody types it.
    pub(super) fn play_curl(&self) {
        let curl = |url: &str, more: &[&str]| {
            let mut command = Command::new("curl");
            command
                .args(["--silent", "--show-error", "--max-time", "20", "--proxy"])
                .arg(format!("http://{}", self.proxy.addr()))
                .arg("--cacert")
                .arg(&self.ca_file)
                .args(["--write-out", "\n%{http_code} %{http_connect}"])
                .args(["--header", &format!("Authorization: Bot {BOT_TOKEN}")])
                .args(more)
                .arg(format!("{url}/api/v10/users/@me"))
                .env_clear();
            if let Some(path) = std::env::var_os("PATH") {
                command.env("PATH", path);
            }
            let output = command.output().expect("curl is installed");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let user = ["--proxy-user", USER];
        let said = curl(&self.secure_url(), &user);
        assert!(
            said.contains("\"id\"") && said.ends_with("\n200 200"),
            "{said}"
        );
        let said = curl(&self.plain.url(), &user);
        assert!(
            said.contains("\"id\"") && said.ends_with("\n200 000"),
            "{said}"
        );
        // Also where it tunnels what it need not, and where it has to be asked first.
        let said = curl(&self.plain.url(), &["--proxytunnel", "--proxy-user", USER]);
        assert!(said.ends_with("\n200 200"), "{said}");
        let said = curl(
            &self.plain.url(),
            &["--proxy-anyauth", "--proxy-user", USER],
        );
        assert!(said.ends_with("\n200 000"), "{said}");
        let said = curl(&self.secure_url(), &[]);
        assert!(said.ends_with("\n000 407"), "{said}");
        let said = curl(&self.plain.url(), &["--proxy-user", "someone:else"]);
        assert!(said.ends_with("\n407 000"), "{said}");
        self.verdict();
    }

    fn secure_url(&self) -> String {
        format!("https://localhost:{}", self.secure.addr.port())
    }

    /// Nothing is left open.
    fn verdict(&self) {
        let limits = self.proxy.limits();
        let until = std::time::Instant::now() + Duration::from_secs(10);
        let active = || {
            let (named, others) = limits.tallies();
            named.iter().map(|(_, tally)| tally.active).sum::<u64>() + others.active
        };
        while active() > 0 {
            assert!(std::time::Instant::now() < until, "{} left", active());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
