use super::*;
use crate::mock::faults::Action;
use crate::mock::http::Parsed;
use crate::mock::settings::Settings;
use crate::mock::world::{Request, World};
use serde_json::{Value, json};

const C: &str = "203039963636301824";

/// Judges and answers requests as a connection would.
struct Desk {
    world: World,
    writer: Writer,
}

impl Desk {
    fn new(patch: &Value) -> Self {
        let settings = Settings::default().patched(patch).unwrap();
        Self {
            world: World::new(settings, 1),
            writer: Writer::new(0),
        }
    }

    fn ask(&mut self, line: &str, json: &str) -> (String, String) {
        let mut head = Head::default();
        let text = format!("{line} HTTP/1.1\r\nHost: h\r\nAuthorization: Bot x\r\n\r\n");
        assert!(matches!(head.parse(text.as_bytes()), Parsed::Complete(_)));
        let mut body = Body::default();
        body.begin("application/json", Some(json.len() as u64));
        body.feed(json.as_bytes());
        let request = Request {
            method: head.method,
            target: head.target(),
            authorization: head.authorization(),
            source: "127.0.0.1".parse().unwrap(),
            json: &body.json,
            body_bytes: body.bytes,
            connection: (1, 1),
        };
        let outcome = self.world.judge(0, 1_700_000_000_000, &request);
        let cx = Context {
            head: &head,
            body: &body,
            unix_ns: UNIX_NS,
            close: false,
            compress_errors: outcome.answers.compress_errors,
        };
        let mut out = Vec::new();
        self.writer.write(&mut out, cx, &outcome);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }
}

const UNIX_NS: u64 = 1_700_000_000_000_000_000;

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn an_answer_carries_the_bucket_and_discords_marks() {
    let mut desk = Desk::new(&json!({}));
    let line = format!("POST /api/v10/channels/{C}/messages");
    let (head, body) = desk.ask(&line, r#"{"content":"hi"}"#);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n"));
    assert_eq!(header(&head, "x-ratelimit-limit"), Some("5"));
    assert_eq!(header(&head, "x-ratelimit-remaining"), Some("4"));
    assert_eq!(header(&head, "x-ratelimit-reset"), Some("1700000001.000"));
    assert_eq!(header(&head, "x-ratelimit-reset-after"), Some("1.000"));
    assert_eq!(header(&head, "x-ratelimit-bucket").unwrap().len(), 32);
    assert_eq!(header(&head, "via"), Some("1.1 google"));
    assert_eq!(
        header(&head, "Content-Length"),
        Some(body.len().to_string().as_str())
    );
    let message: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&message["content"], &message["channel_id"]),
        (&"hi".into(), &C.into())
    );
}

#[test]
fn a_429_tells_scope_and_wait_in_header_and_body() {
    let mut desk = Desk::new(&json!({}));
    let line = format!("POST /api/v10/channels/{C}/messages");
    let answers: Vec<_> = (0..6).map(|_| desk.ask(&line, "")).collect();
    let (head, body) = &answers[5];
    assert!(
        head.starts_with("HTTP/1.1 429 Too Many Requests\r\n"),
        "{head}"
    );
    assert_eq!(header(head, "retry-after"), Some("1"));
    assert_eq!(header(head, "x-ratelimit-scope"), Some("user"));
    assert_eq!(header(head, "x-ratelimit-global"), None);
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&body["retry_after"], &body["global"]),
        (&json!(1.0), &json!(false))
    );
}

#[test]
fn a_global_429_has_no_bucket_and_says_global() {
    let mut desk = Desk::new(&json!({"limits": {"global": {"limit": 1}}}));
    desk.ask("GET /api/v10/users/@me", "");
    let (head, body) = desk.ask("GET /api/v7/users/@me", "");
    assert_eq!(header(&head, "x-ratelimit-global"), Some("true"));
    assert_eq!(header(&head, "x-ratelimit-scope"), Some("global"));
    assert_eq!(header(&head, "x-ratelimit-bucket"), None);
    // Old versions count in milliseconds.
    assert_eq!(header(&head, "retry-after"), Some("1000"));
    assert!(
        body.contains(r#""retry_after": 1000, "global": true"#),
        "{body}"
    );
}

#[test]
fn a_banned_address_hears_cloudflare_alone() {
    let mut desk = Desk::new(&json!({"invalid": {"threshold": 1, "ban_ms": 60_500}}));
    desk.ask("GET /api/v10/channels/203039963636301403", "");
    let (head, body) = desk.ask("GET /api/v10/users/@me", "");
    assert!(head.starts_with("HTTP/1.1 429"));
    assert_eq!(
        (header(&head, "via"), header(&head, "retry-after")),
        (None, Some("61"))
    );
    assert_eq!(body, "error code: 1015");
}

#[test]
fn bodies_follow_the_method_and_the_status() {
    let mut desk = Desk::new(&json!({"answers": {"chunked": true, "early_hints": true}}));
    let (head, body) = desk.ask(&format!("PUT /api/v10/channels/{C}/pins/{C}"), "");
    assert!(head.starts_with("HTTP/1.1 103 Early Hints"));
    let (head, body) = body
        .split_once("\r\n\r\n")
        .map(|(a, b)| (a.to_owned(), b))
        .unwrap_or((head, ""));
    assert!(head.starts_with("HTTP/1.1 204 No Content"), "{head}");
    assert_eq!((body, header(&head, "Content-Length")), ("", None));

    let mut desk = Desk::new(&json!({"answers": {"chunked": true}}));
    let (head, body) = desk.ask("HEAD /api/v10/users/@me", "");
    assert_eq!(
        (header(&head, "Transfer-Encoding"), body.as_str()),
        (Some("chunked"), "")
    );
    let (_, body) = desk.ask("GET /api/v10/gateway", "");
    assert_eq!(
        body,
        "22\r\n{\"url\":\"wss://gateway.discord.gg\"}\r\n0\r\n\r\n"
    );
}

#[test]
fn an_echo_shows_what_was_received() {
    let mut desk = Desk::new(&json!({}));
    let (_, body) = desk.ask("POST /echo/a?x=1", "{}");
    let echo: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&echo["method"], &echo["target"]),
        (&"POST".into(), &"/echo/a?x=1".into())
    );
    assert_eq!(echo["headers"][1], json!(["Authorization", "Bot x"]));
    let (head, body) = desk.ask("GET /echo?status=503&bytes=7", "");
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable"));
    assert_eq!(body, "xxxxxxx");
}

#[test]
fn an_injected_answer_is_sent_as_told() {
    let mut writer = Writer::new(0);
    let (head, body) = (Head::default(), Body::default());
    let cx = Context {
        head: &head,
        body: &body,
        unix_ns: UNIX_NS,
        close: true,
        compress_errors: false,
    };
    let fault = r#"{"kind":"answer","status":429,"headers":[["content-type","text/html"]],
                    "body":"no","bare":true}"#;
    let Action::Answer {
        status,
        headers,
        body,
        bare,
    } = serde_json::from_str(fault).unwrap()
    else {
        panic!("not an answer");
    };
    let mut out = Vec::new();
    writer.write_injected(&mut out, cx, (status, &headers, &body, bare));
    let text = String::from_utf8(out).unwrap();
    assert_eq!(header(&text, "Content-Type"), Some("text/html"));
    assert_eq!(
        (header(&text, "via"), header(&text, "Connection")),
        (None, Some("close"))
    );
    assert!(text.ends_with("Content-Length: 2\r\n\r\nno"));
}
