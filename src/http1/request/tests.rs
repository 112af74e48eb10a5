use super::*;
use crate::http1::HEADERS_MAX;

fn parse(head: &[u8]) -> RequestHead<'_> {
    match parse_request(head) {
        Parse::Complete(head) => head,
        other => panic!("{other:?} for {}", head.escape_ascii()),
    }
}

fn refused(head: &[u8]) -> BadRequest {
    match parse_request(head) {
        Parse::Invalid(bad) => bad,
        other => panic!("{other:?} for {}", head.escape_ascii()),
    }
}

/// A GET with these lines after its `Host`.
fn with(lines: &str) -> Vec<u8> {
    format!("GET /a HTTP/1.1\r\nHost: discord.com\r\n{lines}\r\n").into_bytes()
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
}

#[test]
fn a_request_says_what_weir_needs_to_know() {
    let buf = b"POST /api/v10/channels/1/messages?a=b HTTP/1.1\r\n\
        Host: discord.com\r\n\
        authorization: Bot abc\r\n\
        Content-Length: 5\r\n\
        Expect: 100-Continue\r\n\
        x-ratelimit-abort-after:  2.5 \r\n\
        nirn-routed-to: 10.0.0.1\r\n\
        Empty:\r\n\r\nhello";
    let head = parse(buf);
    assert_eq!(head.method, Method::Post);
    assert_eq!(head.method_bytes, b"POST");
    assert_eq!(head.target, b"/api/v10/channels/1/messages?a=b");
    assert_eq!(head.authority, None);
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.framing, Framing::Length(5));
    assert!(head.keep_alive && head.expect_continue && head.routed_to.is_some());
    assert_eq!(head.authorization, Some(&b"Bot abc"[..]));
    assert_eq!(head.abort_after, Some(&b"2.5"[..]));
    assert_eq!(&buf[head.len..], b"hello");
    let headers: Vec<_> = head.headers().collect();
    assert_eq!(headers.len(), 7);
    assert_eq!(headers[1], (&b"authorization"[..], &b"Bot abc"[..]));
    assert_eq!(headers[6], (&b"Empty"[..], &b""[..]));

    let plain = parse(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(plain.framing, Framing::None);
    assert!(!plain.expect_continue && plain.routed_to.is_none());
    assert_eq!((plain.authorization, plain.abort_after), (None, None));
}

#[test]
fn the_token_is_not_in_the_debug_output() {
    let head = with("Authorization: Bot secret\r\n");
    assert!(!format!("{:?}", parse(&head)).contains("secret"));
}

#[test]
fn every_prefix_of_a_head_is_partial() {
    let buf = b"\r\nPUT /api/x HTTP/1.1\r\nHost: discord.com\r\nTransfer-Encoding: chunked\r\n\r\n";
    for end in 0..buf.len() {
        assert!(
            matches!(parse_request(&buf[..end]), Parse::Partial),
            "{end}"
        );
    }
    assert_eq!(parse(buf).len, buf.len());
}

#[test]
fn lines_that_do_not_end_in_crlf_are_refused() {
    for head in [
        &b"GET / HTTP/1.1\nHost: h\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: h\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\n",
        b"GET / HTTP/1.1\r\nHost: h\n\n",
        b"GET / HTTP/1.1\n\n",
        b"GET / HTTP/1.1\n\r\n",
        b"GET / HTTP/1.0\r\n\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA:\nB: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA: \t\nB: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nA: b \nB: c\r\n\r\n",
        b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\r\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        assert_eq!(
            refused(head),
            BadRequest::LineEnding,
            "{}",
            head.escape_ascii()
        );
    }
}

#[test]
fn what_is_not_the_grammar_is_malformed() {
    for line in [
        "Folded: a\r\n b\r\n",
        "Folded: a\r\n\tb\r\n",
        " Leading: a\r\n",
        "Space : a\r\n",
        "Tab\t: a\r\n",
        ": no name\r\n",
        "No colon\r\n",
        "Bare: a\rb\r\n",
        "Bare: a\r\r\n",
        "Bare\r: a\r\n",
        "Nul: a\0b\r\n",
        "Esc: \x1b[0m\r\n",
        "Del: \x7f\r\n",
        "Form: \x0c\r\n",
        "Vertical: \x0bchunked\r\n",
        "Na(me: a\r\n",
        "Naïve: a\r\n",
    ] {
        assert_eq!(
            refused(&with(line)),
            BadRequest::Malformed,
            "{}",
            line.escape_debug()
        );
    }
    for head in [
        &b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n"[..],
        b"GET /  HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
        b" GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET /a\0b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a\x7fb HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a\rb HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a\xff HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / http/1.1\r\nHost: h\r\n\r\n",
        b"GET / XTTP/1.1\r\nHost: h\r\n\r\n",
        b"G(T / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\rGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        assert_eq!(
            refused(head),
            BadRequest::Malformed,
            "{}",
            head.escape_ascii()
        );
    }
}

#[test]
fn obs_text_and_tabs_in_values_pass() {
    let buf = b"GET / HTTP/1.1\r\nHost: h\r\nX-Audit-Log-Reason: caf\xe9\tb\r\n\r\n";
    let head = parse(buf);
    assert_eq!(head.headers().nth(1).unwrap().1, b"caf\xe9\tb");
}

#[test]
fn two_empty_lines_before_a_request_are_tolerated() {
    for empty in ["\r\n", "\r\n\r\n"] {
        let buf = format!("{empty}GET / HTTP/1.1\r\nHost: h\r\n\r\nrest");
        let head = parse(buf.as_bytes());
        assert_eq!(&buf.as_bytes()[head.len..], b"rest");
        assert_eq!(head.fields.start_line(), b"GET / HTTP/1.1");
    }
    assert_eq!(
        refused(b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        BadRequest::EmptyLines
    );
    assert_eq!(refused(b"\r\n\r\n\r"), BadRequest::EmptyLines);
}

#[test]
fn versions_other_than_1_0_and_1_1_are_not_supported() {
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3", "HTTP/11"] {
        let head = format!("GET / {version}\r\nHost: h\r\n\r\n");
        assert_eq!(refused(head.as_bytes()), BadRequest::Version, "{version}");
    }
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(refused(preface).status(), 505);
}

#[test]
fn targets_are_paths_urls_or_the_star_of_options() {
    for (target, authority, path) in [
        ("/", None, "/"),
        (
            "/a//b/../%2f?x=#".trim_end_matches('#'),
            None,
            "/a//b/../%2f?x=",
        ),
        ("//evil.example/a", None, "//evil.example/a"),
        ("/?&a=b", None, "/?&a=b"),
        (
            "/reactions/%F0%9F%94%A5/@me",
            None,
            "/reactions/%F0%9F%94%A5/@me",
        ),
        ("/reactions/🔥/@me", None, "/reactions/🔥/@me"),
        ("http://discord.com/a?b", Some("discord.com"), "/a?b"),
        ("HTTPS://discord.com:443/a", Some("discord.com:443"), "/a"),
        ("http://[::1]:80/", Some("[::1]:80"), "/"),
        ("http://discord.com", Some("discord.com"), "/"),
    ] {
        let buf = get(target);
        let head = parse(&buf);
        assert_eq!(head.target, path.as_bytes(), "{target}");
        assert_eq!(head.authority, authority.map(str::as_bytes), "{target}");
    }
    for target in [
        "*",
        "a",
        "discord.com:443",
        "discord.com/a",
        "ftp://h/a",
        "http:/a",
        "http:///a",
        "http://",
        "http://user@h/a",
        "http://h?a",
        "?a",
        "/a#b",
        "http://h\\a/b",
        "\\a",
    ] {
        assert_eq!(refused(&get(target)), BadRequest::Target, "{target}");
    }
    for target in ["*", "http://h"] {
        let buf = format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(parse(buf.as_bytes()).target, b"*");
    }
}

#[test]
fn unknown_methods_pass_but_connect_and_look_alikes_do_not() {
    let head = parse(b"PURGE / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(
        (head.method, head.method_bytes),
        (Method::Other, &b"PURGE"[..])
    );
    let longest = format!(
        "{} / HTTP/1.1\r\nHost: h\r\n\r\n",
        "M".repeat(METHOD_BYTES_MAX)
    );
    assert_eq!(parse(longest.as_bytes()).method, Method::Other);
    for head in [
        "CONNECT discord.com:443 HTTP/1.1\r\nHost: h\r\n\r\n",
        "connect / HTTP/1.1\r\nHost: h\r\n\r\n",
        "Head / HTTP/1.1\r\nHost: h\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n",
        "trace / HTTP/1.1\r\nHost: h\r\n\r\n",
        "PRI / HTTP/1.1\r\nHost: h\r\n\r\n",
        &format!("M{longest}"),
        &"M".repeat(METHOD_BYTES_MAX + 1),
    ] {
        assert_eq!(refused(head.as_bytes()), BadRequest::Method, "{head}");
        assert_eq!(BadRequest::Method.status(), 501);
    }
}

#[test]
fn one_host_that_could_be_one_is_required() {
    for (head, bad) in [
        ("GET / HTTP/1.1\r\n\r\n", BadRequest::HostMissing),
        ("GET / HTTP/1.1\r\nA: b\r\n\r\n", BadRequest::HostMissing),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            BadRequest::HostRepeated,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n",
            BadRequest::HostRepeated,
        ),
        (
            "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
            BadRequest::HostRepeated,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            BadRequest::HostInvalid,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            BadRequest::HostInvalid,
        ),
        (
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            BadRequest::HostInvalid,
        ),
    ] {
        assert_eq!(refused(head.as_bytes()), bad, "{head}");
        assert_eq!(bad.status(), 400);
    }
    parse(b"GET / HTTP/1.0\r\n\r\n");
    parse(b"GET / HTTP/1.1\r\nHost:\r\n\r\n");
    parse(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n");
}

#[test]
fn a_second_authorization_is_refused() {
    let head = with("Authorization: Bot a\r\nauthorization: Bot a\r\n");
    assert_eq!(refused(&head), BadRequest::AuthorizationRepeated);
}

#[test]
fn the_first_bound_on_waiting_counts() {
    let head = with("X-RateLimit-Abort-After: 1\r\nx-ratelimit-abort-after: 2\r\n");
    assert_eq!(parse(&head).abort_after, Some(&b"1"[..]));
}

#[test]
fn connections_persist_by_version_and_wish() {
    for (version, line, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: TE, Close\r\n", false),
        (
            "1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: a,,keep-alive ,\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Keep-Alive: timeout=5\r\n", false),
    ] {
        let buf = format!("GET / HTTP/{version}\r\nHost: h\r\n{line}\r\n");
        assert_eq!(
            parse(buf.as_bytes()).keep_alive,
            keep_alive,
            "{version} {line}"
        );
    }
}

#[test]
fn connection_may_not_take_away_what_was_judged() {
    for option in ["host", "Content-Length", "authorization", "a, b, Host"] {
        let head = with(&format!("Connection: {option}\r\n"));
        assert_eq!(refused(&head), BadRequest::Connection, "{option}");
    }
    let many = |count| with(&format!("Connection: {}\r\n", vec!["a"; count].join(",")));
    parse(&many(16));
    assert_eq!(refused(&many(17)), BadRequest::Connection);
}

#[test]
fn no_other_expectation_than_continue_is_taken() {
    for value in [
        "",
        "something",
        "x 100-continue",
        "100-continue, x",
        "100-continue;x",
    ] {
        let head = with(&format!("Content-Length: 1\r\nExpect: {value}\r\n"));
        assert_eq!(refused(&head), BadRequest::Expectation, "{value}");
    }
    let twice = "Expect: 100-continue\r\n".repeat(2);
    assert_eq!(refused(&with(&twice)), BadRequest::Expectation);
    assert_eq!(BadRequest::Expectation.status(), 417);
}

#[test]
fn continue_is_expected_only_before_a_body() {
    for (version, line, expected) in [
        ("1.1", "Content-Length: 1\r\nExpect: 100-continue\r\n", true),
        (
            "1.1",
            "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n",
            true,
        ),
        (
            "1.1",
            "Content-Length: 0\r\nExpect: 100-continue\r\n",
            false,
        ),
        ("1.1", "Expect: 100-continue\r\n", false),
        (
            "1.0",
            "Content-Length: 1\r\nExpect: 100-continue\r\n",
            false,
        ),
    ] {
        let buf = format!("PUT / HTTP/{version}\r\nHost: h\r\n{line}\r\n");
        assert_eq!(
            parse(buf.as_bytes()).expect_continue,
            expected,
            "{version} {line}"
        );
    }
}

#[test]
fn heads_up_to_the_caps_pass_and_beyond_are_refused() {
    let lines = |count: usize| with(&"A: b\r\n".repeat(count - 1));
    assert_eq!(parse(&lines(HEADERS_MAX)).fields.len(), HEADERS_MAX);
    assert_eq!(refused(&lines(HEADERS_MAX + 1)), BadRequest::TooManyHeaders);
    assert_eq!(BadRequest::TooManyHeaders.status(), 431);

    let target = |len: usize| get(&format!("/{}", "a".repeat(len - 1)));
    assert_eq!(
        parse(&target(TARGET_BYTES_MAX)).target.len(),
        TARGET_BYTES_MAX
    );
    assert_eq!(
        refused(&target(TARGET_BYTES_MAX + 1)),
        BadRequest::TargetTooLong
    );
    assert_eq!(BadRequest::TargetTooLong.status(), 414);
    let endless = &target(TARGET_BYTES_MAX + 1)[..4 + TARGET_BYTES_MAX];
    assert!(matches!(parse_request(endless), Parse::Partial));
    let endless = &target(TARGET_BYTES_MAX + 1)[..5 + TARGET_BYTES_MAX];
    assert_eq!(refused(endless), BadRequest::TargetTooLong);

    let sized = |len: usize| {
        let empty = with("Pad: \r\n").len();
        with(&format!("Pad: {}\r\n", "p".repeat(len - empty)))
    };
    let full = sized(HEAD_BYTES_MAX);
    assert_eq!(parse(&full).len, HEAD_BYTES_MAX);
    assert_eq!(parse(&full).headers().nth(1).unwrap().1.last(), Some(&b'p'));
    assert_eq!(
        refused(&sized(HEAD_BYTES_MAX + 1)),
        BadRequest::HeadTooLarge
    );
    assert!(matches!(
        parse_request(&full[..HEAD_BYTES_MAX - 1]),
        Parse::Partial
    ));
    let endless = &sized(HEAD_BYTES_MAX + 1)[..HEAD_BYTES_MAX];
    assert_eq!(refused(endless), BadRequest::HeadTooLarge);
    assert_eq!(BadRequest::HeadTooLarge.status(), 431);
}
