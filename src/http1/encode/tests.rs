use super::*;
use crate::http1::{Method, Parse, parse_request, parse_response};

fn relay_request(head: &str) -> String {
    let Parse::Complete(head) = parse_request(head.as_bytes()) else {
        panic!("{head}")
    };
    let mut out = Vec::new();
    head.encode(b"discord.com", &mut out);
    String::from_utf8(out).unwrap()
}

fn relay_response(bytes: &str, method: Method, to: ClientSide) -> (String, Relay) {
    let Parse::Complete(head) = parse_response(bytes.as_bytes(), method) else {
        panic!("{bytes}")
    };
    let mut out = Vec::new();
    let relay = head.encode(to, &mut out);
    check_as_encoded(bytes, &head, method);
    (String::from_utf8(out).unwrap(), relay)
}

/// What is said to be as it would be written is, and so is whatever was written for a connection that
/// stays open.
fn check_as_encoded(bytes: &str, head: &ResponseHead<'_>, method: Method) {
    let mut written = Vec::new();
    let relay = head.encode(OPEN, &mut written);
    if head.is_as_encoded() {
        assert_eq!(written, &bytes.as_bytes()[..head.len]);
        assert!(relay.keep_alive && !relay.dechunk);
    }
    let Parse::Complete(again) = parse_response(&written, method) else {
        panic!("{bytes}")
    };
    let stays_open = relay.keep_alive || head.is_interim();
    assert_eq!(again.is_as_encoded(), stays_open, "{bytes}");
}

const OPEN: ClientSide = ClientSide {
    version: Version::Http11,
    keep_alive: true,
};
const CLOSING: ClientSide = ClientSide {
    version: Version::Http11,
    keep_alive: false,
};
const OLD: ClientSide = ClientSide {
    version: Version::Http10,
    keep_alive: false,
};
const OLD_OPEN: ClientSide = ClientSide {
    version: Version::Http10,
    keep_alive: true,
};

#[test]
fn a_request_goes_on_byte_for_byte_but_for_host_and_hop_by_hop_lines() {
    let head = "POST /api/v10/a?&b=%2F HTTP/1.1\r\n\
        user-AGENT:DiscordBot (x, 1) \r\n\
        HOST: 127.0.0.1:8080\r\n\
        Keep-Alive: timeout=5\r\n\
        Authorization: Bot abc\r\n\
        Connection: Keep-Alive, X-Private, TE\r\n\
        X-Private: 1\r\n\
        Content-Length:\t12\r\n\
        TE: trailers\r\n\
        x-private: 2\r\n\
        Expect: 100-continue\r\n\
        X-RateLimit-Abort-After: 3\r\n\
        X-RateLimit-Precision: millisecond\r\n\
        nirn-routed-to: a\r\n\
        Trailer: X-Sum\r\n\
        Upgrade: h2c\r\n\
        Proxy-Connection: close\r\n\
        Proxy-Authorization: Basic x\r\n\
        Accept-Encoding:  gzip,\tbr\r\n\
        Accept-Encoding: deflate\r\n\r\n";
    let sent = "POST /api/v10/a?&b=%2F HTTP/1.1\r\n\
        user-AGENT:DiscordBot (x, 1) \r\n\
        HOST: discord.com\r\n\
        Authorization: Bot abc\r\n\
        Content-Length: 12\r\n\
        X-RateLimit-Precision: millisecond\r\n\
        Accept-Encoding:  gzip,\tbr\r\n\
        Accept-Encoding: deflate\r\n\r\n";
    assert_eq!(relay_request(head), sent);
}

#[test]
fn a_length_has_no_blanks_around_it_but_one() {
    for (line, sent) in [
        ("content-length:3", "content-length:3"),
        ("Content-Length: 3", "Content-Length: 3"),
        ("Content-Length:  3", "Content-Length: 3"),
        ("Content-Length:\t3", "Content-Length: 3"),
        ("Content-Length: 3 ", "Content-Length: 3"),
        ("Content-Length:3\t", "Content-Length: 3"),
    ] {
        let head = |host: &str, line: &str| {
            format!("PUT / HTTP/1.1\r\nHost: {host}\r\n{line}\r\nX:  y \r\n\r\n")
        };
        assert_eq!(relay_request(&head("h", line)), head("discord.com", sent));
    }
}

#[test]
fn a_chunked_request_stays_chunked_where_it_said_so() {
    let head = "PUT / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:  Chunked\r\nA: b\r\n\r\n";
    let sent = "PUT / HTTP/1.1\r\nHost: discord.com\r\ntransfer-encoding: chunked\r\nA: b\r\n\r\n";
    assert_eq!(relay_request(head), sent);
    let named = head.replace("A: b", "Connection: transfer-encoding");
    assert!(relay_request(&named).contains("transfer-encoding: chunked\r\n"));
}

#[test]
fn an_old_request_without_host_gets_one_and_is_sent_as_1_1() {
    let sent = "GET /a HTTP/1.1\r\nHost: discord.com\r\nA: b\r\n\r\n";
    assert_eq!(relay_request("GET /a HTTP/1.0\r\nA: b\r\n\r\n"), sent);
    let bare = "GET /a HTTP/1.1\r\nHost: discord.com\r\n\r\n";
    assert_eq!(relay_request("GET /a HTTP/1.0\r\n\r\n"), bare);
}

#[test]
fn an_absolute_target_is_sent_as_a_path_and_empty_lines_are_not_sent() {
    let sent = "GET /a?b HTTP/1.1\r\nHost: discord.com\r\n\r\n";
    let head = "\r\n\r\nGET http://other.example:80/a?b HTTP/1.1\r\nHost: other.example\r\n\r\n";
    assert_eq!(relay_request(head), sent);
    let head = "PURGE /a?b HTTP/1.1\r\nHost: other.example\r\n\r\n";
    assert_eq!(relay_request(head), sent.replace("GET", "PURGE"));
}

#[test]
fn a_response_goes_on_byte_for_byte_but_for_hop_by_hop_lines() {
    let kept = "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
        Content-Type: application/json\r\n\
        Content-Length: 2\r\n\
        set-cookie: __dcfduid=1; path=/\r\n\
        set-cookie: __sdcfduid=2; path=/\r\n\
        x-ratelimit-bucket: abc\r\n\
        x-ratelimit-reset-after: 0.250\r\n\
        Via:1.1 google\r\n\
        CF-RAY: 8-FRA\r\n\
        Proxy-Status: cdn\r\n";
    let head = format!(
        "HTTP/1.1 200 Fine by  me\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n{kept}\
         Trailer: a\r\nUpgrade: h2\r\nProxy-Authenticate: Basic\r\nTE: x\r\n\r\n"
    );
    let sent = format!("HTTP/1.1 200 Fine by  me\r\n{kept}\r\n");
    let relay = Relay {
        dechunk: false,
        keep_alive: true,
    };
    assert_eq!(relay_response(&head, Method::Get, OPEN), (sent, relay));
}

#[test]
fn connection_is_written_where_the_default_is_not_meant() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    for (to, line) in [
        (OPEN, ""),
        (CLOSING, "Connection: close\r\n"),
        (OLD, ""),
        (OLD_OPEN, "Connection: keep-alive\r\n"),
    ] {
        let (sent, relay) = relay_response(head, Method::Get, to);
        assert_eq!(
            sent,
            format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{line}\r\n")
        );
        assert_eq!(
            relay,
            Relay {
                dechunk: false,
                keep_alive: to.keep_alive
            }
        );
    }
}

#[test]
fn a_chunked_response_stays_chunked_but_for_old_clients() {
    let head = "HTTP/1.1 200 OK\r\nA: b\r\ntransfer-encoding:CHUNKED\r\nC: d\r\n\r\n";
    let (sent, relay) = relay_response(head, Method::Get, OPEN);
    assert_eq!(
        sent,
        "HTTP/1.1 200 OK\r\nA: b\r\ntransfer-encoding: chunked\r\nC: d\r\n\r\n"
    );
    assert_eq!(
        relay,
        Relay {
            dechunk: false,
            keep_alive: true
        }
    );
    for to in [OLD, OLD_OPEN] {
        let (sent, relay) = relay_response(head, Method::Get, to);
        assert_eq!(sent, "HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\n\r\n");
        assert_eq!(
            relay,
            Relay {
                dechunk: true,
                keep_alive: false
            }
        );
    }
}

#[test]
fn a_response_until_close_closes_the_client_connection_too() {
    let (sent, relay) = relay_response("HTTP/1.0 200 OK\r\nA: b\r\n\r\n", Method::Get, OPEN);
    assert_eq!(sent, "HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\n");
    assert_eq!(
        relay,
        Relay {
            dechunk: false,
            keep_alive: false
        }
    );
    let (sent, relay) = relay_response("HTTP/1.1 200 OK\r\n\r\n", Method::Get, OLD_OPEN);
    assert_eq!(sent, "HTTP/1.1 200 OK\r\n\r\n");
    assert!(!relay.keep_alive);
}

#[test]
fn answers_without_a_body_declare_only_what_they_may() {
    const LENGTH: &str = "Content-Length: 5\r\n";
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
    for (method, status, lines, kept) in [
        (Method::Head, "200 OK", LENGTH, LENGTH),
        (Method::Head, "200 OK", CHUNKED, ""),
        (Method::Get, "304 Not Modified", LENGTH, LENGTH),
        (Method::Get, "304 Not Modified", CHUNKED, ""),
        (Method::Get, "204 No Content", LENGTH, ""),
        (Method::Get, "204 No Content", CHUNKED, ""),
        (Method::Get, "103 Early Hints", "Content-Length: 0\r\n", ""),
    ] {
        let (sent, relay) =
            relay_response(&format!("HTTP/1.1 {status}\r\n{lines}\r\n"), method, OPEN);
        assert_eq!(
            sent,
            format!("HTTP/1.1 {status}\r\n{kept}\r\n"),
            "{method:?} {lines}"
        );
        assert_eq!(
            relay,
            Relay {
                dechunk: false,
                keep_alive: true
            }
        );
    }
    let (sent, _) = relay_response("HTTP/1.1 103 Early Hints\r\n\r\n", Method::Get, CLOSING);
    assert_eq!(
        sent, "HTTP/1.1 103 Early Hints\r\n\r\n",
        "the final answer says that it closes"
    );
}

#[test]
fn a_missing_reason_keeps_its_space() {
    for head in ["HTTP/1.1 204\r\n\r\n", "HTTP/1.1 204 \r\n\r\n"] {
        assert_eq!(
            relay_response(head, Method::Get, OPEN).0,
            "HTTP/1.1 204 \r\n\r\n"
        );
    }
}

#[test]
fn a_reason_of_other_bytes_than_ascii_goes_on() {
    let head = b"HTTP/1.1 200 Tr\xe8s bien\r\n\r\n";
    let Parse::Complete(head) = parse_response(head, Method::Head) else {
        panic!()
    };
    let mut out = Vec::new();
    let _ = head.encode(OPEN, &mut out);
    assert_eq!(out, b"HTTP/1.1 200 Tr\xe8s bien\r\n\r\n");
}

#[test]
fn heads_are_written_into_the_room_there_is() {
    let Parse::Complete(head) = parse_request(b"GET / HTTP/1.0\r\nA: b\r\n\r\n") else {
        panic!()
    };
    let mut out = Vec::with_capacity(512);
    let room = out.as_ptr();
    head.encode(b"discord.com", &mut out);
    assert_eq!((out.as_ptr(), out.capacity()), (room, 512));
}

#[test]
fn decimals_are_written_whole() {
    for number in [0, 9, 10, 429, u64::MAX] {
        assert_eq!(
            Decimal::new(number).as_bytes(),
            number.to_string().as_bytes()
        );
    }
}

#[test]
fn a_requests_name_goes_on_as_it_came_and_what_a_node_calls_it_only_to_nodes() {
    let head = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let encoded = |lines: &str, relayed: Option<Option<&str>>| {
        let head = head(lines);
        let Parse::Complete(head) = parse_request(head.as_bytes()) else {
            panic!("{lines}");
        };
        let mut out = Vec::new();
        match relayed {
            None => head.encode(b"b", &mut out),
            Some(id) => {
                let (node, before) = (&b"b"[..], 0);
                head.encode_relayed(&Hop { node, before, id }, &mut out);
            }
        }
        String::from_utf8(out).unwrap()
    };
    let client = "x-Request-ID:  mine\r\n";
    let node = "Weir-Request-Id: theirs\r\n";
    let start = "GET / HTTP/1.1\r\nHost: b\r\n";
    assert_eq!(
        encoded(&format!("{client}{node}"), None),
        format!("{start}{client}\r\n")
    );
    assert_eq!(
        encoded(&format!("{client}{node}"), Some(None)),
        format!("{start}{client}nirn-routed-to: b\r\n\r\n")
    );
    assert_eq!(
        encoded(node, Some(Some("ours"))),
        format!("{start}nirn-routed-to: b\r\nweir-request-id: ours\r\n\r\n")
    );
    // Where there is hardly room, a head goes without.
    let most = "a: b\r\n".repeat(95);
    assert!(encoded(&most, Some(Some("ours"))).contains("weir-request-id"));
    let more = "a: b\r\n".repeat(96);
    assert!(!encoded(&more, Some(Some("ours"))).contains("weir-request-id"));
    let long = format!("a: {}\r\n", "b".repeat(64_600));
    assert!(!encoded(&long, Some(Some("ours"))).contains("weir-request-id"));
    // Whoever says that it ends here, has it end here.
    let named = format!("Connection: x-request-id\r\n{client}");
    assert_eq!(encoded(&named, None), format!("{start}\r\n"));
}

#[test]
fn a_relayed_head_says_in_lines_how_often_it_was_relayed() {
    let relayed = |sent: &str, before| {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{sent}\r\n");
        let Parse::Complete(head) = parse_request(bytes.as_bytes()) else {
            panic!("complete");
        };
        let mut out = Vec::new();
        let (node, id) = (&b"b"[..], None);
        head.encode_relayed(&Hop { node, before, id }, &mut out);
        (head.relays, String::from_utf8(out).unwrap())
    };
    let head = |lines: &str| format!("GET / HTTP/1.1\r\nHost: b\r\n{lines}\r\n");
    let line = "nirn-routed-to: b\r\n";
    assert_eq!(relayed("", 0), (0, head(line)));
    // Whatever it came with, it goes to one node, and says how often it went.
    let came = "nirn-routed-to: a\r\n";
    assert_eq!(relayed(came, 1), (1, head(&line.repeat(2))));
    assert_eq!(relayed(&came.repeat(2), 2), (2, head(&line.repeat(3))));
    assert_eq!(relayed("nirn-routed-to:\r\n", 0).0, 0, "it says nothing");
}

#[test]
fn a_head_has_room_for_a_line_more_unless_it_is_among_the_longest() {
    let room = |lines: usize| {
        let lines = "x: y\r\n".repeat(lines);
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        match parse_request(bytes.as_bytes()) {
            Parse::Complete(head) => head.has_room(),
            _ => panic!("complete"),
        }
    };
    assert!(room(95) && !room(96));
}
