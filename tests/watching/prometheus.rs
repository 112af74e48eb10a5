//! A real Prometheus that scrapes a weir each second; ended when dropped.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::http::Client;

pub(crate) struct Prometheus {
    child: Child,
    addr: SocketAddr,
    folder: PathBuf,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Prometheus {
    pub(crate) fn start(targets: &[SocketAddr]) -> Self {
        let name = format!("prometheus-{}", std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let targets: Vec<_> = targets.iter().map(|addr| format!("\"{addr}\"")).collect();
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: weir\n    \
             static_configs: [{{targets: [{}]}}]\n",
            targets.join(", ")
        );
        let file = folder.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus is installed");
        let said = BufReader::new(child.stderr.take().unwrap());
        let mut lines = said.lines().map_while(Result::ok);
        let addr = lines.by_ref().find_map(|line| {
            let (_, rest) = line.split_once("msg=\"Listening on\" address=")?;
            rest.split(' ').next()?.parse().ok()
        });
        // Nobody reads the rest, but it must go somewhere.
        thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            addr: addr.expect("prometheus says where it listens"),
            folder,
        }
    }

    /// How many series a query selects now.
    pub(crate) fn select(&self, query: &str) -> usize {
        let answer = self.ask(query);
        let answer = answer.unwrap_or_else(|said| panic!("{query}: {said}"));
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().map_or(0, Vec::len)
    }

    /// Waits until a query selects something.
    pub(crate) fn wait_for(&self, query: &str) {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.ask(query);
            let found = answer.iter().any(|answer| {
                answer["data"]["result"]
                    .as_array()
                    .is_some_and(|all| !all.is_empty())
            });
            if found {
                return;
            }
            assert!(Instant::now() < until, "{query}: {answer:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn ask(&self, query: &str) -> Result<Value, String> {
        let mut encoded = String::new();
        for byte in query.bytes() {
            let _ = write!(encoded, "%{byte:02X}");
        }
        let request = format!(
            "GET /api/v1/query?query={encoded} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        );
        let text = Client::connect(self.addr).ask(&request).text();
        serde_json::from_str(&text).map_err(|_| text)
    }
}
