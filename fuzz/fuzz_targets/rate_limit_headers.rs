//! An answer: its status, `Name: value` lines, an empty line and the body, as any bytes.
//!
//! - No wait exceeds a day, no limit the highest that is believed, and none is 0.
//! - A wait in decimal digits is the number it says, to the microsecond.
//! - Names are read without regard to case; a name that is none of ours changes nothing.
//! - Read as milliseconds (API v6 and v7), no wait is longer than read as seconds.
//! - Only a 429 with a known wait is sent again; only 401, 403 and 429 are invalid.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::time::Duration;
use weir::limit::{Answer, LIMIT_MAX, Limited, PAUSE_MAX, Verdict};

const OURS: [&str; 9] = [
    "via",
    "retry-after",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-reset-after",
    "x-ratelimit-bucket",
    "x-ratelimit-global",
    "x-ratelimit-scope",
];

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|&byte| byte == b'\n');
    let status = lines.next().and_then(|line| std::str::from_utf8(line).ok());
    let status = status.and_then(|line| line.parse().ok()).unwrap_or(429);
    let mut headers = Vec::new();
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let colon = line
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or(line.len());
        // Of other names no head is parsed; the targets of the heads see to that.
        if !line[..colon].iter().all(u8::is_ascii_graphic) {
            continue;
        }
        let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
        headers.push((line[..colon].to_vec(), value));
    }
    let body = lines.collect::<Vec<_>>().join(&b'\n');
    check(&read(Answer::new(status), &headers, &body));

    let shout = |(name, value): &(Vec<u8>, _)| (name.to_ascii_uppercase(), *value);
    let shouted: Vec<_> = headers.iter().map(shout).collect();
    let answer = read(Answer::new(status), &headers, &body);
    assert_eq!(read(Answer::new(status), &shouted, &body), answer);

    let in_ms = read(Answer::new(status).in_milliseconds(true), &headers, &body);
    check(&in_ms);
    assert_eq!(
        in_ms.retry_after().is_some(),
        answer.retry_after().is_some()
    );
    assert!(in_ms.retry_after() <= answer.retry_after());
    assert_eq!(in_ms.headers.reset_after, answer.headers.reset_after);
});

fn read(mut answer: Answer, headers: &[(Vec<u8>, &[u8])], body: &[u8]) -> Answer {
    for (name, value) in headers {
        let before = answer;
        answer.header(name, value);
        if !OURS
            .iter()
            .any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()))
        {
            assert_eq!(before, answer, "a name that is none of ours");
        }
        if name.eq_ignore_ascii_case(b"x-ratelimit-reset-after") {
            check_decimal(value, answer.headers.reset_after);
        }
    }
    answer.error_body(body);
    answer
}

fn check(answer: &Answer) {
    let headers = &answer.headers;
    for wait in [
        headers.reset_after,
        headers.retry_after,
        answer.body_retry_after,
    ] {
        assert!(wait.is_none_or(|wait| wait <= PAUSE_MAX), "{wait:?}");
    }
    assert!(
        headers
            .limit
            .is_none_or(|limit| (1..=LIMIT_MAX).contains(&limit))
    );
    assert!(
        headers
            .remaining
            .is_none_or(|remaining| remaining <= LIMIT_MAX)
    );
    assert_eq!(answer.limited() == Limited::No, answer.status != 429);
    match answer.limited() {
        Limited::User | Limited::Shared => {
            assert!(answer.retry_after().is_some() && answer.verdict() != Verdict::Pass);
        }
        Limited::Global => assert_eq!(answer.verdict(), Verdict::Retry),
        Limited::No | Limited::SubLimit | Limited::Cloudflare | Limited::Unexplained => {
            assert_eq!(answer.verdict(), Verdict::Pass);
        }
    }
    assert!(!answer.is_invalid() || matches!(answer.status, 401 | 403 | 429));
}

/// Against the standard library's parser, for what is digits and points.
fn check_decimal(value: &[u8], read: Option<Duration>) {
    let digits = value
        .iter()
        .all(|&byte| byte.is_ascii_digit() || byte == b'.');
    let number = std::str::from_utf8(value)
        .ok()
        .and_then(|value| value.parse::<f64>().ok());
    match number.filter(|_| digits) {
        None => assert_eq!(read, None),
        Some(seconds) => {
            // To the microsecond, and not believed beyond the longest pause.
            let near_max = (seconds - PAUSE_MAX.as_secs_f64()).abs() < 2e-6;
            match read {
                None => assert!(seconds > PAUSE_MAX.as_secs_f64() || near_max, "{seconds}"),
                Some(read) => {
                    let read = read.as_secs_f64();
                    assert!((read - seconds).abs() < 2e-6, "{read} for {seconds}");
                }
            }
        }
    }
}
