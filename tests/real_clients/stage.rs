//! A mock Discord, a weir in front of it, and what must be true when a client has played its part.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use loadtest::mock::tls::{Identity, Tls};
use loadtest::mock::{self, MockConfig, MockHandle};
use weir::config::{IoDriver, UpstreamUrl};

/// The bot that all clients are: the first part is a user id in base64, as in every bot token.
pub(super) const BOT_TOKEN: &str =
    "MzAwMDAwMDAwMDAwMDAwMDEw.GabcdE.abcdefghijklmnopqrstuvwxyz0123456789AB";

/// Messages of the scenario's burst, each with its number in it.
pub(super) const BURST: usize = 20;

/// What a client may take: five times what it needs on an idle machine.
const PLAY_SECONDS_MAX: u64 = 120;

/// One test's servers.
pub(super) struct Stage {
    mock: MockHandle,
    weir: weir::Handle,
    ca_file: PathBuf,
    /// The authority of weir's own certificate, if it speaks TLS with its clients.
    own_ca_file: Option<PathBuf>,
}

impl Stage {
    /// Clients speak plain HTTP.
    pub(super) fn start(workers: usize, io_driver: IoDriver) -> Self {
        Self::with(workers, io_driver, None)
    }

    /// Clients speak HTTPS.
    pub(super) fn secure(workers: usize, io_driver: IoDriver) -> Self {
        Self::with(workers, io_driver, Identity::make(Tls::Valid).unwrap())
    }

    fn with(workers: usize, io_driver: IoDriver, identity: Option<Identity>) -> Self {
        static STAGES: AtomicU32 = AtomicU32::new(0);
        let mock = mock::start(MockConfig::default()).unwrap();
        let number = STAGES.fetch_add(1, Ordering::Relaxed);
        let ca_file = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("real-clients-{}-{number}.pem", process::id()));
        fs::write(&ca_file, &mock.ca_pem).unwrap();
        let own = identity.map(|identity| {
            [
                ("ca", identity.ca_pem),
                ("cert", identity.cert_pem),
                ("key", identity.key_pem),
            ]
            .map(|(name, pem)| {
                let file = ca_file.with_extension(format!("{name}.pem"));
                fs::write(&file, pem).unwrap();
                file
            })
        });
        let weir = weir::start(weir::Config {
            bind_ip: [127, 0, 0, 1].into(),
            port: 0,
            metrics_port: 0,
            workers: Some(workers),
            io_driver,
            upstream: UpstreamUrl {
                tls: true,
                host: "localhost".into(),
                port: mock.addr.port(),
            },
            upstream_ca_file: Some(ca_file.clone()),
            tls_cert_file: own.as_ref().map(|[_, cert, _]| cert.clone()),
            tls_key_file: own.as_ref().map(|[_, _, key]| key.clone()),
            ..weir::Config::default()
        })
        .unwrap();
        Self {
            mock,
            weir,
            ca_file,
            own_ca_file: own.map(|[ca, ..]| ca),
        }
    }

    pub(super) fn proxy(&self) -> SocketAddr {
        self.weir.proxy_addr()
    }

    /// Runs a client's script against the proxy; what it printed is shown if it fails.
    pub(super) fn play(&self, mut script: Command) {
        let url = match &self.own_ca_file {
            None => format!("http://{}", self.proxy()),
            Some(ca) => {
                script.env("NODE_EXTRA_CA_CERTS", ca);
                format!("https://localhost:{}", self.proxy().port())
            }
        };
        script
            .env("WEIR_URL", url)
            .env("BOT_TOKEN", BOT_TOKEN)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = script.spawn().unwrap_or_else(|error| {
            panic!("{script:?} cannot be run: {error}. The real-client tests need its interpreter.")
        });
        let said = [
            collect(child.stdout.take().unwrap()),
            collect(child.stderr.take().unwrap()),
        ];
        let deadline = Instant::now() + Duration::from_secs(PLAY_SECONDS_MAX);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            thread::sleep(Duration::from_millis(50));
        };
        let said = said.map(|reader| reader.join().unwrap()).concat();
        match status {
            Some(status) => assert!(status.success(), "{script:?}: {status}\n{said}"),
            None => panic!("{script:?} did not end within {PLAY_SECONDS_MAX} s\n{said}"),
        }
        println!("{said}");
    }

    /// What Discord saw: nothing that the limits forbid, every message once and in order.
    pub(super) fn verdict(self) {
        let oracle = self.mock.oracle();
        let shown = format!("{oracle:#?}");
        assert_eq!(
            (oracle.violations, oracle.unforetold, oracle.invalid),
            (0, 0, 0),
            "{shown}"
        );
        assert_eq!(oracle.malformed, 0, "{shown}");
        let order = &oracle.order;
        assert_eq!(
            (order.inversions, order.duplicates, order.missing),
            (0, 0, 0),
            "{shown}"
        );
        assert_eq!(order.tagged, BURST as u64, "{shown}");
        // The one message that is not there; everything else was.
        assert_eq!(oracle.statuses.get(&404), Some(&1), "{shown}");
        let failed: u64 = oracle
            .statuses
            .iter()
            .filter(|&(&s, _)| !(200..300).contains(&s))
            .map(|(_, n)| n)
            .sum();
        assert_eq!(failed, 1, "{shown}");
        assert!(
            self.weir.shutdown(Duration::from_secs(5)),
            "requests are still under way"
        );
        fs::remove_file(&self.ca_file).unwrap();
    }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut said = Vec::new();
        from.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    })
}
