use super::*;
use proptest::prelude::*;

fn answer(status: u16, headers: &[(&str, &str)]) -> Answer {
    let mut answer = Answer::new(status);
    headers
        .iter()
        .for_each(|(name, value)| answer.header(name.as_bytes(), value.as_bytes()));
    answer
}

#[test]
fn discords_headers_are_read_in_any_case() {
    let answer = answer(
        200,
        &[
            ("Content-Type", "application/json"),
            ("X-RateLimit-Limit", "5"),
            ("x-ratelimit-remaining", "4"),
            ("X-RATELIMIT-RESET", "1470173023.123"),
            ("x-ratelimit-reset-after", "0.64"),
            ("x-ratelimit-bucket", "abcd1234"),
            ("via", "1.1 google"),
        ],
    );
    let headers = answer.headers;
    assert_eq!((headers.limit, headers.remaining), (Some(5), Some(4)));
    assert_eq!(headers.reset_ms, Some(1_470_173_023_123));
    assert_eq!(headers.reset_after, Some(Duration::from_millis(640)));
    assert_eq!(headers.bucket, Some(bucket_hash(b"abcd1234")));
    assert!(headers.via);
}

#[test]
fn absurd_values_are_clamped_or_dropped() {
    let odd = answer(
        200,
        &[
            ("x-ratelimit-limit", "0"),
            ("x-ratelimit-remaining", "99999999999999999999999"),
            ("x-ratelimit-reset", "-5"),
            ("x-ratelimit-reset-after", "1e9"),
            ("retry-after", "99999999999"),
        ],
    );
    assert_eq!(odd.headers.limit, None);
    assert_eq!(odd.headers.remaining, Some(LIMIT_MAX));
    assert_eq!(
        (odd.headers.reset_ms, odd.headers.reset_after),
        (None, None)
    );
    assert_eq!(odd.headers.retry_after, Some(PAUSE_MAX));
}

#[test]
fn waits_of_old_api_versions_are_milliseconds() {
    let mut old = Answer::new(429).in_milliseconds(true);
    old.header(b"Retry-After", b"1500");
    assert_eq!(old.retry_after(), Some(Duration::from_millis(1500)));
    old.error_body(br#"{"retry_after": 1499, "global": false}"#);
    assert_eq!(old.retry_after(), Some(Duration::from_millis(1499)));
}

#[test]
fn every_kind_of_429_is_told_apart() {
    let user = [
        ("x-ratelimit-limit", "5"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset-after", "1.0"),
    ];
    let with = |more: &[(&'static str, &'static str)]| answer(429, &[&user[..], more].concat());
    let body = |mut answer: Answer, body: &str| {
        answer.error_body(body.as_bytes());
        answer
    };
    let cases = [
        (answer(200, &[]), Limited::No, Verdict::Pass),
        (
            with(&[("retry-after", "1"), ("x-ratelimit-scope", "user")]),
            Limited::User,
            Verdict::Retry,
        ),
        (
            with(&[("retry-after", "480"), ("x-ratelimit-scope", "user")]),
            Limited::SubLimit,
            Verdict::Pass,
        ),
        (
            answer(
                429,
                &[
                    ("x-ratelimit-limit", "5"),
                    ("x-ratelimit-remaining", "3"),
                    ("retry-after", "1"),
                ],
            ),
            Limited::SubLimit,
            Verdict::Pass,
        ),
        (
            with(&[("retry-after", "4"), ("x-ratelimit-scope", "shared")]),
            Limited::Shared,
            Verdict::RetryShared,
        ),
        (
            body(with(&[]), r#"{"code": 40062, "retry_after": 2.5}"#),
            Limited::Shared,
            Verdict::RetryShared,
        ),
        (
            answer(
                429,
                &[
                    ("x-ratelimit-global", "true"),
                    ("via", "1.1 google"),
                    ("retry-after", "1"),
                ],
            ),
            Limited::Global,
            Verdict::Retry,
        ),
        (
            body(answer(429, &[]), r#"{"global": true, "retry_after": 0.4}"#),
            Limited::Global,
            Verdict::Retry,
        ),
        (
            body(answer(429, &[]), "error code: 1015"),
            Limited::Cloudflare,
            Verdict::Pass,
        ),
        (
            answer(429, &[("retry-after", "30")]),
            Limited::Cloudflare,
            Verdict::Pass,
        ),
        (
            body(
                answer(429, &[("via", "1.1 google")]),
                r#"{"code": 30046, "message": "x"}"#,
            ),
            Limited::Unexplained,
            Verdict::Pass,
        ),
    ];
    for (answer, limited, verdict) in cases {
        assert_eq!(
            (answer.limited(), answer.verdict()),
            (limited, verdict),
            "{answer:?}"
        );
    }
}

#[test]
fn shared_429s_and_404s_are_not_invalid_requests() {
    assert!(answer(401, &[]).is_invalid() && answer(403, &[]).is_invalid());
    assert!(answer(429, &[("retry-after", "1"), ("via", "x")]).is_invalid());
    assert!(
        !answer(
            429,
            &[("retry-after", "1"), ("x-ratelimit-scope", "shared")]
        )
        .is_invalid()
    );
    assert!(!answer(404, &[]).is_invalid());
}

proptest! {
    #[test]
    fn no_header_or_body_can_panic_and_waits_stay_bounded(
        name in "(?i)(x-ratelimit-[a-z-]{0,12}|retry-after|via|[ -~]{0,30})",
        value in prop::collection::vec(any::<u8>(), 0..40),
        body in "\\PC*",
        number in any::<f64>(),
    ) {
        let mut answer = Answer::new(429);
        answer.header(name.as_bytes(), &value);
        answer.error_body(body.as_bytes());
        answer.error_body(format!("{{\"retry_after\":{number}}}").as_bytes());
        prop_assert!(answer.retry_after().is_none_or(|wait| wait <= PAUSE_MAX));
        let _ = answer.verdict();
    }

    #[test]
    fn decimals_parse_to_the_microsecond(whole in 0u64..10_000_000_000, fraction in 0u32..1_000_000) {
        let text = format!("{whole}.{fraction:06}");
        prop_assert_eq!(decimal_micros(text.as_bytes()), Some(whole * 1_000_000 + u64::from(fraction)));
    }
}

#[test]
fn a_reset_after_beyond_a_day_is_not_believed_and_whole_seconds_are_known() {
    let mut answer = Answer::new(200);
    for (value, believed) in [
        ("86400", true),
        ("86400.001", false),
        ("4294967296.5", false),
    ] {
        answer.header(b"X-RateLimit-Reset-After", value.as_bytes());
        assert_eq!(answer.headers.reset_after.is_some(), believed, "{value}");
    }
    for (value, whole) in [("1470173023", true), ("1470173023.000", false)] {
        answer.header(b"X-RateLimit-Reset", value.as_bytes());
        assert_eq!(answer.headers.whole_seconds, whole, "{value}");
    }
}
