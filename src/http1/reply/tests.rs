use super::*;
use crate::http1::{Framing, Method, Parse, parse_response};

fn encode(reply: &Reply<'_>) -> String {
    let mut out = Vec::new();
    reply.encode(false, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_429_looks_like_discords() {
    let wait = Duration::from_micros(1_234_001);
    let reply = Reply::rate_limited("You are being rate limited.", wait, Scope::User);
    let body =
        r#"{"message": "You are being rate limited.", "retry_after": 1.235, "global": false}"#;
    let head = format!(
        "HTTP/1.1 429 Too Many Requests\r\n\
         Content-Type: application/json\r\n\
         Content-Length: {}\r\n\
         Retry-After: 2\r\n\
         X-RateLimit-Reset-After: 1.235\r\n\
         X-RateLimit-Scope: user\r\n\
         Via: 1.1 weir\r\n\
         generated-by-proxy: true\r\n\r\n",
        body.len()
    );
    assert_eq!(encode(&reply.keep_alive(true)), head + body);
    let global = encode(&Reply::rate_limited("m", wait, Scope::Global));
    assert!(global.contains("\r\nX-RateLimit-Scope: global\r\nX-RateLimit-Global: true\r\n"));
    assert!(global.ends_with("\"global\": true}"));
    let shared = encode(&Reply::rate_limited("m", wait, Scope::Shared));
    assert!(shared.contains("\r\nX-RateLimit-Scope: shared\r\n") && !shared.contains("Global"));
}

#[test]
fn waits_are_rounded_up_and_never_zero_whole_seconds() {
    for (wait, whole, exact) in [
        (Duration::ZERO, "1", "0.000"),
        (Duration::from_nanos(1), "1", "0.001"),
        (Duration::from_millis(999), "1", "0.999"),
        (Duration::from_secs(1), "1", "1.000"),
        (Duration::from_nanos(1_000_000_001), "2", "1.001"),
        (Duration::from_nanos(1_999_999_999), "2", "2.000"),
        (Duration::from_millis(60_050), "61", "60.050"),
        (
            Duration::MAX,
            "18446744073709551615",
            "18446744073709551616.000",
        ),
    ] {
        let text = encode(&Reply::rate_limited("m", wait, Scope::User));
        assert!(
            text.contains(&format!("\r\nRetry-After: {whole}\r\n")),
            "{wait:?} {text}"
        );
        if wait != Duration::MAX {
            assert!(
                text.contains(&format!("Reset-After: {exact}\r\n")),
                "{wait:?} {text}"
            );
            assert!(
                text.contains(&format!("\"retry_after\": {exact},")),
                "{wait:?} {text}"
            );
        }
    }
}

#[test]
fn other_errors_have_message_and_code() {
    let text = encode(&Reply::error(502, "upstream cannot be reached"));
    assert_eq!(
        text,
        "HTTP/1.1 502 Bad Gateway\r\n\
         Content-Type: application/json\r\n\
         Content-Length: 52\r\n\
         Via: 1.1 weir\r\n\
         generated-by-proxy: true\r\n\
         Connection: close\r\n\r\n\
         {\"message\": \"upstream cannot be reached\", \"code\": 0}"
    );
    let webhook = encode(&Reply::error(404, "Unknown Webhook").code(10015));
    assert!(webhook.ends_with("{\"message\": \"Unknown Webhook\", \"code\": 10015}"));
    let full = encode(&Reply::error(503, "full").retry_after(Duration::from_millis(1500)));
    assert!(full.contains("\r\nRetry-After: 2\r\n") && !full.contains("RateLimit"));
    assert!(full.ends_with("{\"message\": \"full\", \"code\": 0}"));
    let unscoped = encode(&Reply::error(429, "m").retry_after(Duration::from_secs(3)));
    assert!(unscoped.ends_with("\"retry_after\": 3.000, \"global\": false}"));
}

#[test]
fn refusals_of_requests_close() {
    let text = encode(&Reply::bad_request(BadRequest::TooManyHeaders));
    assert!(text.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"));
    assert!(text.contains("\r\nConnection: close\r\n"));
    assert!(text.contains(BadRequest::TooManyHeaders.message()));
}

#[test]
fn messages_are_json_whatever_they_hold() {
    let message = "a\"b\\c\n\u{1}\u{1f}é\u{7f}🔥";
    let text = encode(&Reply::error(400, message));
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let value: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(value["message"], message);
    let long = "long ".repeat(1000);
    let text = encode(&Reply::rate_limited(
        &long,
        Duration::from_secs(1),
        Scope::User,
    ));
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let value: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(value["message"], long);
    assert_eq!(value["retry_after"], 1.0);
    assert_eq!(value["global"], false);
}

#[test]
fn plain_replies_carry_their_body_as_it_is() {
    let health = encode(&Reply::text(200, "ok").keep_alive(true));
    assert!(
        health.contains("\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n")
    );
    assert!(health.starts_with("HTTP/1.1 200 OK\r\n") && health.ends_with("\r\n\r\nok"));
    let status = encode(&Reply::json(200, b"{\"a\":1}").code(5));
    assert!(status.contains("\r\nContent-Type: application/json\r\nContent-Length: 7\r\n"));
    assert!(status.ends_with("\r\n\r\n{\"a\":1}"));
}

#[test]
fn connection_follows_version_and_wish() {
    for (version, keep_alive, line) in [
        (Version::Http11, true, None),
        (Version::Http11, false, Some("\r\nConnection: close\r\n")),
        (
            Version::Http10,
            true,
            Some("\r\nConnection: keep-alive\r\n"),
        ),
        (Version::Http10, false, None),
    ] {
        let text = encode(
            &Reply::error(400, "m")
                .version(version)
                .keep_alive(keep_alive),
        );
        match line {
            Some(line) => assert!(text.contains(line), "{version:?} {keep_alive}"),
            None => assert!(!text.contains("Connection"), "{version:?} {keep_alive}"),
        }
    }
}

#[test]
fn replies_parse_and_a_head_only_reply_is_the_same_head() {
    for reply in [
        Reply::rate_limited("m", Duration::from_secs(2), Scope::Global),
        Reply::error(408, "m"),
        Reply::text(200, ""),
    ] {
        let (mut whole, mut head) = (Vec::new(), Vec::new());
        reply.encode(false, &mut whole);
        reply.encode(true, &mut head);
        let Parse::Complete(parsed) = parse_response(&whole, Method::Get) else {
            panic!()
        };
        assert_eq!(
            parsed.framing,
            Framing::Length((whole.len() - parsed.len) as u64)
        );
        assert_eq!(parsed.status, reply.status());
        assert_eq!(head, &whole[..parsed.len]);
    }
    assert!(matches!(
        parse_response(CONTINUE, Method::Post),
        Parse::Complete(head) if head.status == 100 && head.len == CONTINUE.len()
    ));
}

#[test]
fn a_challenge_asks_for_name_and_password() {
    let mut out = Vec::new();
    let reply = Reply::error(407, "who are you?").challenge("weir");
    reply.encode(true, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("HTTP/1.1 407 Proxy Authentication Required\r\n"));
    let line = "\r\nProxy-Authenticate: Basic realm=\"weir\", charset=\"UTF-8\"\r\n";
    assert!(text.contains(line), "{text}");
}
