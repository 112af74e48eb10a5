//! Who may ask, and for what.

use std::io::{Read, Write};

use super::target::{Target, eventually};
use super::{ask, connect_line, echoes, get, start, tunnel};
use crate::support::http::Client;
use crate::support::pem_file;

#[test]
fn what_is_not_public_is_refused_unless_it_is_allowed_by_its_address() {
    let target = Target::echo();
    let port = target.addr.port();
    let proxy = start(|options| options.settings.allow = None);
    for host in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("[64:ff9b::7f00:1]:{port}"),
        format!("0.0.0.0:{port}"),
        "169.254.169.254:80".to_owned(),
        "10.0.0.1:80".to_owned(),
    ] {
        let mut client = Client::connect(proxy.addr());
        client.send(format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.answer(true).status, 403, "{host}");
        let mut client = Client::connect(proxy.addr());
        let plain = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(client.ask(&plain).status, 403, "{host}");
    }
    // What a resolver would take for an address is no host.
    for host in ["2130706433:80", "0x7f000001:80", "127.1:80", "a:0", "a"] {
        let mut client = Client::connect(proxy.addr());
        client.send(format!("CONNECT {host} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(client.answer(true).status, 400, "{host}");
    }
    assert_eq!(target.ever(), 0);

    let by_name = start(|options| {
        options.settings.allow = Some("localhost".parse().unwrap());
    });
    let mut client = Client::connect(by_name.addr());
    client.send(format!(
        "CONNECT localhost:{port} HTTP/1.1\r\nHost: x\r\n\r\n"
    ));
    assert_eq!(client.answer(true).status, 403, "a name opens no address");

    let denied = start(|options| {
        options.settings.deny = format!("*:{port}").parse().unwrap();
    });
    assert_eq!(ask(&denied, target.addr).1.status, 403);
}

#[test]
fn a_name_is_looked_up_and_its_addresses_are_tried_until_one_answers() {
    // On 127.0.0.1 alone, while the name has ::1 as well.
    let target = Target::echo();
    let proxy = start(|_| ());
    let host = format!("LOCALHOST.:{}", target.addr.port());
    for _ in 0..3 {
        let mut client = Client::connect(proxy.addr());
        client.send(format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.answer(true).status, 200);
        echoes(&mut client.stream, b"there");
    }
    let key = format!("localhost:{}", target.addr.port());
    let (named, _) = proxy.limits().tallies();
    let opened = named
        .iter()
        .find(|(host, _)| *host == key)
        .unwrap()
        .1
        .opened;
    assert_eq!(opened, 3);
}

#[test]
fn with_credentials_strangers_are_asked_who_they_are_and_nothing_is_done_for_them() {
    let target = Target::http(std::time::Duration::ZERO);
    let file = pem_file("# users\nAladdin:open sesame\n");
    let proxy = start(|options| options.settings.credentials_file = Some(file));
    let (_, asked) = ask(&proxy, target.addr);
    assert_eq!(asked.status, 407);
    let challenge = asked.header("proxy-authenticate").unwrap();
    assert!(challenge.starts_with("Basic realm="), "{challenge}");
    let with = |value: &str| {
        let mut client = Client::connect(proxy.addr());
        let head = get(target.addr, "/");
        let line = format!("\r\nProxy-Authorization: {value}\r\n");
        client.ask(&head.replacen("\r\n", &line, 1))
    };
    assert_eq!(with("Basic b3BlbjpzZXNhbWU=").status, 407);
    assert_eq!(with("Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==").status, 407);
    assert_eq!(target.ever(), 0);
    let answer = with("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert_eq!(answer.status, 200);
    assert!(!answer.text().to_lowercase().contains("proxy-auth"), "kept");
}

#[test]
fn a_file_of_credentials_that_is_none_prevents_the_start_without_showing_what_is_in_it() {
    for (content, expected) in [("secret", "line 1 of"), ("# nobody\n", "names nobody")] {
        let mut options = weir::egress::Options::default();
        options.settings.credentials_file = Some(pem_file(content));
        let error = weir::ForwardProxy::start(options).err().unwrap();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(
            text.contains(expected) && !text.contains("secret"),
            "{text}"
        );
    }
}

#[test]
fn whose_address_is_not_in_allow_from_is_not_served() {
    let proxy = start(|options| options.allow_from = "192.0.2.0/24".parse().unwrap());
    let mut stream = std::net::TcpStream::connect(proxy.addr()).unwrap();
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn what_is_no_request_to_a_proxy_is_refused() {
    let proxy = start(|_| ());
    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET https://x.example/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET http://u:p@x.example/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("CONNECT x.example HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("CONNECT x.example:1 HTTP/1.1\r\n\r\n", 400),
        ("TRACE http://x.example/ HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        ("GET http://x.example/ HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    ] {
        let mut client = Client::connect(proxy.addr());
        assert_eq!(client.ask(head).status, status, "{head:?}");
        assert!(client.is_closed());
    }
}

#[test]
fn no_more_clients_than_there_are_places_for() {
    let target = Target::echo();
    let proxy = start(|options| options.settings.max_clients = 3);
    let mut held: Vec<_> = (0..3).map(|_| tunnel(&proxy, target.addr)).collect();
    let mut fourth = std::net::TcpStream::connect(proxy.addr()).unwrap();
    assert!(matches!(fourth.read(&mut [0]), Ok(0) | Err(_)));
    held.iter_mut().for_each(|stream| echoes(stream, b"ok"));
    drop(held.pop());
    eventually("a place is free", || {
        let mut client = Client::connect(proxy.addr());
        let _ = client
            .stream
            .write_all(connect_line(target.addr).as_bytes());
        client.try_answer(true).is_some()
    });
}
