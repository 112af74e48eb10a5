//! Every fault as a client sees it, and what the oracle takes note of.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use loadtest::client::{Client, Target};
use loadtest::mock::faults::{Action, Fault};
use loadtest::mock::settings::{OnAccept, Settings};
use loadtest::mock::tls::Tls;
use loadtest::mock::{self, MockConfig, MockHandle};
use serde_json::json;

const ME: &str = "/api/v10/users/@me";

fn start(tls: Tls) -> MockHandle {
    mock::start(MockConfig {
        tls,
        ..MockConfig::default()
    })
    .unwrap()
}

fn connect(mock: &MockHandle) -> Client {
    let target = if mock.ca_pem.is_empty() {
        Target::plain(mock.addr)
    } else {
        Target::tls(mock.addr, &mock.ca_pem).unwrap()
    };
    Client::connect(&target).unwrap().authorized("Bot x")
}

/// Lets `action` befall one request, and returns the client's error and the mock.
fn struck(tls: Tls, action: Action) -> (ErrorKind, MockHandle, Client) {
    let mock = start(tls);
    mock.set_faults(vec![Fault::from(action).times(1)]);
    let mut client = connect(&mock);
    let error = client.get(ME).unwrap_err();
    (error.kind(), mock, client)
}

#[test]
fn a_closed_connection_ends_and_a_reset_one_is_reset() {
    for tls in [Tls::Plain, Tls::Valid] {
        let (kind, mock, _) = struck(tls, Action::CloseUnprocessed);
        assert_eq!(kind, ErrorKind::UnexpectedEof);
        let report = mock.oracle();
        assert_eq!(
            (report.faults, report.templates["GET /users/@me"].accepted),
            (1, 0)
        );
        let (kind, ..) = struck(tls, Action::ResetUnprocessed);
        assert_eq!(kind, ErrorKind::ConnectionReset);
        let (kind, mock, _) = struck(tls, Action::CloseAfter { bytes: 100 });
        assert_eq!(kind, ErrorKind::UnexpectedEof);
        assert_eq!(
            mock.oracle().templates["GET /users/@me"].accepted,
            1,
            "it was processed"
        );
        let (kind, ..) = struck(tls, Action::ResetAfter { bytes: 0 });
        assert_eq!(kind, ErrorKind::ConnectionReset);
        let (kind, ..) = struck(tls, Action::HalfHead);
        assert_eq!(kind, ErrorKind::UnexpectedEof);
        let (kind, ..) = struck(tls, Action::Garbage { bytes: 64 });
        assert_eq!(kind, ErrorKind::InvalidData);
    }
}

#[test]
fn a_hanging_answer_never_comes_and_does_not_keep_the_mock_from_stopping() {
    let mock = start(Tls::Valid);
    mock.set_faults(vec![Fault::from(Action::Hang { bytes: 20 }).times(1)]);
    let mut client = connect(&mock);
    client
        .send_raw(b"GET /echo HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    assert!(!client.is_closed_within(Duration::from_millis(200)));
    assert_eq!(
        connect(&mock).get(ME).unwrap().status,
        200,
        "others are served meanwhile"
    );
    let begin = Instant::now();
    drop(mock);
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
    assert!(client.is_closed_within(Duration::from_secs(1)));
}

#[test]
fn a_stalled_answer_is_late_but_whole() {
    let mock = start(Tls::Plain);
    mock.set_faults(vec![
        Fault::from(Action::Stall { bytes: 30, ms: 150 }).times(1),
    ]);
    let mut client = connect(&mock);
    let begin = Instant::now();
    assert_eq!(client.get(ME).unwrap().status, 200);
    assert!(begin.elapsed() >= Duration::from_millis(150));
}

#[test]
fn connections_close_announced_or_not() {
    let mock = start(Tls::Plain);
    mock.set_faults(vec![Fault::from(Action::ConnectionClose).times(1)]);
    let mut client = connect(&mock);
    assert_eq!(client.get(ME).unwrap().header("connection"), Some("close"));
    assert!(client.is_closed_within(Duration::from_secs(1)));

    mock.set_faults(vec![Fault::from(Action::CloseIdle).times(1)]);
    let mut client = connect(&mock);
    assert_eq!(client.get(ME).unwrap().header("connection"), None);
    assert!(client.is_closed_within(Duration::from_secs(1)));
}

#[test]
fn kept_alive_connections_close_after_some_requests_or_idle_time() {
    let mock = start(Tls::Plain);
    let patch = json!({"connections": {"close_after_requests": 2, "close_delay_ms": 50}});
    mock.patch_settings(&patch).unwrap();
    let mut client = connect(&mock);
    assert_eq!(client.get(ME).unwrap().status, 200);
    assert_eq!(client.get(ME).unwrap().status, 200);
    // The race: the third request is on its way when the connection ends.
    assert!(client.get(ME).is_err());
    assert_eq!(mock.oracle().requests, 2);

    mock.patch_settings(&json!({"connections": {"idle_ms": 80}}))
        .unwrap();
    mock.patch_settings(&json!({"connections": {"close_after_requests": null}}))
        .unwrap();
    let mut client = connect(&mock);
    assert_eq!(client.get(ME).unwrap().status, 200);
    assert!(!client.is_closed_within(Duration::from_millis(20)));
    assert!(client.is_closed_within(Duration::from_secs(2)));
}

#[test]
fn an_injected_answer_counts_as_invalid_where_discord_would_count_it() {
    let mock = start(Tls::Plain);
    let answer = |status, body: &str| Action::Answer {
        status,
        headers: vec![("x-extra".into(), "1".into())],
        body: body.into(),
        bare: false,
    };
    mock.set_faults(vec![
        Fault::from(answer(429, r#"{"code":30046}"#)).times(1),
        Fault::from(answer(502, "")).times(1),
    ]);
    let mut client = connect(&mock);
    let first = client.get(ME).unwrap();
    assert_eq!((first.status, first.header("x-extra")), (429, Some("1")));
    assert_eq!(first.json()["code"], 30046);
    assert_eq!(client.get(ME).unwrap().status, 502);
    assert_eq!(client.get(ME).unwrap().status, 200);
    let report = mock.oracle();
    assert_eq!(
        (report.invalid, report.faults, report.violations),
        (1, 2, 0)
    );
}

#[test]
fn raw_bytes_are_sent_as_they_are() {
    let mock = start(Tls::Plain);
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok".to_owned();
    mock.set_faults(vec![
        Fault::from(Action::Raw { text, close: false }).times(1),
    ]);
    let mut client = connect(&mock);
    assert_eq!(client.get(ME).unwrap().body, b"ok");
    assert_eq!(client.get(ME).unwrap().status, 200);
}

#[test]
fn a_refusing_mock_cannot_be_reached_until_it_listens_again() {
    let mock = start(Tls::Plain);
    let mut open = connect(&mock);
    let until = |listening: bool| {
        mock.set_listening(listening);
        let begin = Instant::now();
        while Client::connect(&Target::plain(mock.addr)).is_ok() != listening {
            assert!(
                begin.elapsed() < Duration::from_secs(5),
                "listening: {listening}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    until(false);
    assert_eq!(open.get(ME).unwrap().status, 200, "open connections go on");
    let mut control = Client::connect(&Target::plain(mock.control_addr)).unwrap();
    assert_eq!(control.get("/__mock/oracle").unwrap().status, 200);
    until(true);
    assert_eq!(connect(&mock).get(ME).unwrap().status, 200);
}

#[test]
fn new_connections_close_reset_or_hang() {
    let mock = start(Tls::Valid);
    for (on_accept, kind) in [
        (OnAccept::Close, ErrorKind::UnexpectedEof),
        (OnAccept::Reset, ErrorKind::ConnectionReset),
    ] {
        let mut settings = Settings::default();
        settings.connections.on_accept = on_accept;
        mock.set_settings(settings);
        assert_eq!(connect(&mock).get(ME).unwrap_err().kind(), kind);
    }
    mock.patch_settings(&json!({"connections": {"on_accept": "hang"}}))
        .unwrap();
    let tcp = std::net::TcpStream::connect(mock.addr).unwrap();
    tcp.set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let error = std::io::Read::read(&mut &tcp, &mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[test]
fn bad_certificates_are_not_accepted() {
    for tls in [Tls::Expired, Tls::WrongName] {
        let mock = start(tls);
        let error = connect(&mock).get(ME).unwrap_err();
        assert!(
            error.to_string().contains("certificate"),
            "{tls:?}: {error}"
        );
        let begin = Instant::now();
        while mock.oracle().connections.tls_failed == 0 {
            assert!(begin.elapsed() < Duration::from_secs(5));
        }
    }
    let (mock, other) = (start(Tls::Valid), start(Tls::Valid));
    let stranger = Target::tls(mock.addr, &other.ca_pem).unwrap();
    assert!(Client::connect(&stranger).unwrap().get(ME).is_err());
}
