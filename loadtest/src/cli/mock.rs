//! `loadtest mock`: the mock as a process, for tests in other languages.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

use loadtest::mock::settings::Settings;
use loadtest::mock::tls::Tls;
use loadtest::mock::{self, MockConfig};
use loadtest::runtime::Driver;
use serde_json::json;

/// Prints one line of JSON, `{"addr", "control", "url", "ca_file"}`, and serves until stdin closes
/// or it is ended by a signal.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Port to listen on at 127.0.0.1, 0 for any.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Serve TLS (the default).
    #[arg(long, conflicts_with = "plain")]
    tls: bool,
    /// Serve without TLS.
    #[arg(long)]
    plain: bool,
    /// Show an expired certificate.
    #[arg(long, conflicts_with_all = ["plain", "wrong_name"])]
    expired: bool,
    /// Show a certificate for another name.
    #[arg(long, conflicts_with = "plain")]
    wrong_name: bool,
    /// Where to write the authority's certificate (PEM).
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
    /// Threads to serve with.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Use epoll even where io_uring works.
    #[arg(long)]
    epoll: bool,
    /// Neither limits nor log: for measurements.
    #[arg(long)]
    unlimited: bool,
    /// A patch of the settings, as `POST /__mock/config` takes it.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    settings: String,
    /// Print the line as JSON (always done; for scripts that want to say so).
    #[arg(long)]
    print_json: bool,
}

pub(super) fn run(args: &Args) -> io::Result<()> {
    let settings = if args.unlimited {
        Settings::unlimited()
    } else {
        Settings::default()
    };
    let patch = serde_json::from_str(&args.settings)?;
    let tls = match (args.plain, args.expired, args.wrong_name) {
        (true, ..) => Tls::Plain,
        (_, true, _) => Tls::Expired,
        (.., true) => Tls::WrongName,
        _ => Tls::Valid,
    };
    let mock = mock::start(MockConfig {
        port: args.port,
        tls,
        threads: args.threads,
        driver: if args.epoll {
            Driver::Epoll
        } else {
            Driver::Auto
        },
        settings: settings.patched(&patch)?,
        ..MockConfig::default()
    })?;
    if let Some(path) = &args.ca_out {
        fs::write(path, &mock.ca_pem)?;
    }
    let line = json!({
        "addr": mock.addr.to_string(),
        "control": mock.control_addr.to_string(),
        "url": mock.url(),
        "ca_file": args.ca_out,
    });
    super::say(&line.to_string())?;
    let mut buf = [0; 256];
    while io::stdin().read(&mut buf)? > 0 {}
    Ok(())
}
