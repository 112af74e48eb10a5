//! The document with everything in it, as text.

use super::*;

const FULL: &str = include_str!("../../../status/full.json");

fn full() -> Status {
    serde_json::from_str(FULL).unwrap()
}

/// A second later, with so much more.
fn later() -> Status {
    let mut status = full();
    status.unix_ms += 500;
    status.uptime_ms += 500;
    *status.requests.answered.get_mut("2xx").unwrap() += 617;
    status.workers[0].requests += 617;
    status
}

fn text(lines: &[Line]) -> String {
    lines.iter().map(|line| paint(line, false) + "\n").collect()
}

fn seen(statuses: impl IntoIterator<Item = Status>) -> Screen {
    let mut screen = Screen::default();
    statuses.into_iter().for_each(|status| screen.see(status));
    screen
}

#[test]
fn everything_that_the_document_says_is_on_the_screen() {
    let text = text(&seen([full(), later()]).lines(200));
    for part in [
        "weir 0.1.0  serving for 26 h 3 min, io_uring, to discord.com  node 10.0.0.1:7946",
        "PROBLEM  Discord refused the token of 203039963636301824: its requests are answered with 401. (41 s)",
        "notice   weir is ending.",
        "Requests     1,234/s  41 under way  17 waiting of 100,000  81,200 held back",
        "Answered     2xx 1,831,039  4xx 2,311  429 shared 3",
        "Refused      token_locked 12",
        "Errors       client_gone 8",
        "Latency ms   Discord 61/88/240  queue 0/12/940  added 0.03/0.05/0.40  50/90/99 % of 60 s",
        "Guards       12 of 9,500 invalid requests  Cloudflare lets through  1 tokens locked  2 dead webhooks",
        "Connections  64 of 8,192 clients  to Discord 24 busy, 40 idle of 512, 0 opened/s",
        "Workers      1,234/s  20 MiB resident",
        "Cluster      10.0.0.1:7946* alive 33 %",
        "Identify     4 wait, 96 went  203039963636301824 4 wait, next in 3.1 s, 904 of 1000 left",
        "Forward      12 clients  api.example.com:443 25/25 3 wait  Redis shared, 3 proxies",
        "  203039963636301824               31 of 50          9       17",
        "Busiest buckets",
        "  POST /channels/!/messages ",
        " 0       17    0 of 5      1.8 s  channel 203039963636301824, 203039963636301824",
        "Buckets that are waited for",
    ] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    assert!(text.lines().count() <= 30, "{text}");
}

#[test]
fn one_look_has_no_rates_nor_has_a_weir_that_was_started_anew() {
    let mut anew = later();
    anew.uptime_ms = 10;
    for screen in [seen([full()]), seen([full(), anew])] {
        let text = text(&screen.lines(100));
        assert!(!text.contains("/s"), "{text}");
        assert!(text.contains("Workers      turns"), "{text}");
    }
    let mut stuck = later();
    stuck.workers[0].answers = false;
    assert!(text(&seen([full(), stuck]).lines(100)).contains("Workers      stuck"));
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for columns in [20, 40, 80] {
        for line in seen([full(), later()]).lines(columns) {
            let width = paint(&line, false).chars().count();
            // What a person should know is broken and not cut; its words are.
            assert!(
                width <= columns.max(29),
                "{columns}: {}",
                paint(&line, false)
            );
        }
    }
    assert_eq!(broken("a bb ccc", 4), ["a bb", "ccc"]);
    assert_eq!(broken("", 4), [""]);
}

#[test]
fn what_comes_from_elsewhere_steers_no_terminal() {
    let mut status = later();
    status.upstream = "a\x1b[2Jb\n".to_owned();
    status.attention[0].text = "x\x07y\u{9b}z".to_owned();
    status.buckets.blocked[0].route = "/\x1b]0;t\x07".to_owned();
    let lines = seen([status]).lines(200);
    assert!(
        lines
            .iter()
            .all(|line| !paint(line, false).contains(char::is_control))
    );
    let painted = paint(&vec![(Look::Red, "x".to_owned())], true);
    assert_eq!(painted, "\x1b[31mx\x1b[0m");
}

#[test]
fn an_empty_document_is_no_reason_to_fail() {
    let lines = Screen::default().lines(80);
    assert!(text(&lines).contains("0 of 0 invalid requests"));
}

#[test]
fn one_line_has_what_one_would_plot() {
    assert_eq!(
        seen([full(), later()]).line(),
        "serving answered/s=1,234 under_way=41 waiting=17 refused=12 429s=3 invalid=12/9500 clients=64 upstream=24 \
         problems=1"
    );
}
