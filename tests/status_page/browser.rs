//! The page in a browser. The script looks; what happens to weir meanwhile happens here, when it says so.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::install;
use super::stage::{FLOODED, REFUSED, SECRET, Stage};

/// Where Debian, and others, put the browser.
const BROWSERS: [&str; 4] = [
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
    "/snap/bin/chromium",
];

fn browser() -> PathBuf {
    let found = BROWSERS
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists());
    found.unwrap_or_else(|| {
        panic!("no browser at any of {BROWSERS:?}: the package `chromium` has one")
    })
}

#[test]
fn the_page_shows_how_weir_stands_and_that_it_does_not_answer() {
    let pictures = std::env::var_os("STATUS_SCREENSHOTS");
    let mut stage = Stage::start();
    // Pictures show a minute of it.
    let seconds = if pictures.is_some() { 100 } else { 15 };
    let _work = stage.work(3, seconds);
    stage.be_refused();
    let mut script: Command = install::browser().script("status_page.py");
    script
        .arg(browser())
        .arg(format!("http://{}/", stage.weir.metrics))
        .args([SECRET, &FLOODED.to_string(), REFUSED])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    if let Some(pictures) = &pictures {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(pictures);
        script.arg(folder);
    }
    let mut script = script.spawn().expect("Python runs");
    let mut says = script.stdin.take().unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(script.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match &*line {
            "do flood" => stage.flood(16),
            "do flood more" => stage.flood(40),
            "do beside" => {
                stage.identify(4);
                stage.tunnels(3);
            }
            "do stop" => {
                stage.weir.signal("KILL");
                stage.weir.wait(Duration::from_secs(10));
            }
            _ => said.push(line),
        }
        writeln!(says, "done").unwrap();
    }
    let status = script.wait().unwrap();
    assert!(status.success(), "{said:#?}");
    assert_eq!(
        said.last().map(String::as_str),
        Some("all is as it should be"),
        "{said:#?}"
    );
}
