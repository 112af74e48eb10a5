//! Plain requests: relayed as they are, one connection after the other used again.

use std::io::{Read, Write};
use std::time::Duration;

use super::target::Target;
use super::{DRIVERS, get, start};
use crate::support::http::Client;

#[test]
fn requests_of_one_client_to_one_host_share_a_connection() {
    for driver in DRIVERS {
        let (one, other) = (Target::http(Duration::ZERO), Target::http(Duration::ZERO));
        let proxy = start(|options| options.io_driver = driver);
        let mut client = Client::connect(proxy.addr());
        for n in 0..5 {
            let answer = client.ask(&get(one.addr, &format!("/{n}")));
            assert_eq!(answer.status, 200);
            let head = answer.text();
            assert!(
                head.starts_with(&format!("GET /{n} HTTP/1.1\r\n")),
                "{head}"
            );
            assert!(head.contains(&format!("Host: {}\r\n", one.addr)), "{head}");
        }
        assert_eq!(one.ever(), 1, "{driver:?}");
        assert_eq!(client.ask(&get(other.addr, "/")).status, 200);
        assert_eq!(client.ask(&get(one.addr, "/")).status, 200);
        assert_eq!((one.ever(), other.ever()), (2, 1));
    }
}

#[test]
fn a_body_goes_up_in_either_framing_and_comes_down_again() {
    for driver in DRIVERS {
        let echo = Target::http(Duration::ZERO);
        let proxy = start(|options| options.io_driver = driver);
        let mut client = Client::connect(proxy.addr());
        let body = "x".repeat(300_000);
        let head = format!(
            "POST http://{0}/up HTTP/1.1\r\nHost: {0}\r\nContent-Length: {1}\r\n\
             Expect: 100-continue\r\nProxy-Connection: keep-alive\r\n\r\n",
            echo.addr,
            body.len()
        );
        client.send(head);
        client.send(&body);
        let answer = client.answer(false);
        assert_eq!((answer.status, answer.interim), (200, vec![100]));
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.ends_with(&body));
        assert!(!text.contains("Proxy-Connection") && !text.contains("Expect"));

        let chunked = Target::serving(|mut stream| {
            let mut seen = Vec::new();
            let mut bytes = [0; 1024];
            while !seen.ends_with(b"0\r\n\r\n") {
                let count = stream.read(&mut bytes).unwrap();
                seen.extend_from_slice(&bytes[..count]);
            }
            let text = String::from_utf8_lossy(&seen);
            assert!(text.contains("Transfer-Encoding: chunked"), "{text}");
            let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                          3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let head = format!(
            "POST http://{0}/ HTTP/1.1\r\nHost: {0}\r\nTransfer-Encoding: chunked\r\n\r\n\
             4\r\nwxyz\r\n0\r\n\r\n",
            chunked.addr
        );
        let answer = client.ask(&head);
        assert_eq!(answer.text(), "abcde", "{driver:?}");
    }
}

#[test]
fn an_answer_that_ends_with_its_connection_ends_the_clients() {
    let target = Target::serving(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end");
    });
    let proxy = start(|_| ());
    let mut client = Client::connect(proxy.addr());
    let answer = client.ask(&get(target.addr, "/"));
    assert_eq!(answer.text(), "until the end");
    assert_eq!(answer.header("connection"), Some("close"));
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole_and_one_that_never_comes_is_502() {
    for driver in DRIVERS {
        let breaks = Target::serving(|mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        });
        let proxy = start(|options| options.io_driver = driver);
        let mut client = Client::connect(proxy.addr());
        client.send(get(breaks.addr, "/"));
        assert!(client.try_answer(false).is_none(), "{driver:?}");

        for garbage in [&b""[..], b"nonsense\r\n\r\n", b"HTTP/1.1 101 Up\r\n\r\n"] {
            let odd = Target::serving(move |mut stream| {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(garbage);
            });
            let mut client = Client::connect(proxy.addr());
            assert_eq!(client.ask(&get(odd.addr, "/")).status, 502);
        }
    }
}

#[test]
fn a_connection_that_ended_while_it_was_kept_is_replaced_unnoticed() {
    // Closes behind each answer without saying so.
    let target = Target::serving(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let proxy = start(|_| ());
    let mut client = Client::connect(proxy.addr());
    for _ in 0..20 {
        assert_eq!(client.ask(&get(target.addr, "/")).text(), "ok");
    }
    assert_eq!(target.ever(), 20);
}

#[test]
fn pipelined_requests_are_answered_one_after_the_other() {
    for driver in DRIVERS {
        let target = Target::http(Duration::from_millis(20));
        let proxy = start(|options| options.io_driver = driver);
        let mut client = Client::connect(proxy.addr());
        let all: String = (0..10)
            .map(|n| get(target.addr, &format!("/{n}")))
            .collect();
        client.send(all);
        for n in 0..10 {
            let answer = client.answer(false);
            assert!(
                answer.text().starts_with(&format!("GET /{n} ")),
                "{driver:?}"
            );
        }
        assert_eq!(target.ever(), 1);
    }
}
