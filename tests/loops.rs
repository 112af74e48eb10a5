//! An upstream that leads back: refused at the start where that can be seen, and at the second hop else.

mod support;

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use support::http::Client;
use support::upstream::Recorder;
use support::{TOKEN, config, request};
use weir::{Handle, StartError};

/// A port that nobody listens on, for a moment at least.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

fn start(port: u16, upstream: &str) -> Result<Handle, StartError> {
    let mut config = config(upstream, None);
    (config.port, config.workers) = (port, Some(1));
    weir::start(config)
}

#[test]
fn a_weir_that_would_be_its_own_upstream_does_not_start() {
    let port = free_port();
    for host in ["127.0.0.1", "localhost"] {
        let Err(error) = start(port, &format!("http://{host}:{port}")) else {
            panic!("it starts");
        };
        assert!(
            matches!(error, StartError::UpstreamIsSelf { .. }),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().starts_with("UPSTREAM_URL: "), "{error}");
    }
    let mut all = config(&format!("http://127.0.0.1:{port}"), None);
    (all.port, all.bind_ip) = (port, [0, 0, 0, 0].into());
    assert!(matches!(
        weir::start(all),
        Err(StartError::UpstreamIsSelf { .. })
    ));
}

#[test]
fn a_request_that_comes_back_through_another_weir_is_answered_508() {
    let (one, other) = (free_port(), free_port());
    let first = start(one, &format!("http://127.0.0.1:{other}")).expect("it starts");
    let second = start(other, &format!("http://127.0.0.1:{one}")).expect("it starts");
    for (weir, path) in [
        (&first, "/api/v10/users/@me"),
        (&second, "/api/v10/gateway"),
    ] {
        for method in ["GET", "POST"] {
            let asked = request(method, path, "");
            let answer = Client::connect(weir.proxy_addr()).ask(&asked);
            assert_eq!(answer.status, 508, "{}", answer.text());
            assert_eq!(answer.header("generated-by-proxy"), Some("true"));
        }
    }
    let metrics = first.metrics_addr().expect("metrics are on");
    let text = Client::connect(metrics)
        .ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .text();
    let counted = "weir_refused_total{status=\"508\",reason=\"loop\"} 2";
    assert!(text.contains(counted), "each came back once: {text}");
}

#[test]
fn what_another_proxy_says_of_itself_goes_on_and_weirs_in_a_row_are_none_in_a_loop() {
    let heard = Arc::new(Mutex::new(String::new()));
    let told = heard.clone();
    let discord = Recorder::start(move |peer| {
        while let Ok(asked) = peer.read_request() {
            let asked = String::from_utf8_lossy(&asked).into_owned();
            *told.lock().expect("nobody panics with it") = asked;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let behind = start(0, &discord.url()).expect("it starts");
    let front = start(0, &format!("http://{}", behind.proxy_addr())).expect("it starts");
    let asked = format!(
        "GET /api/v10/users/@me HTTP/1.1\r\nHost: x\r\nVia: 1.0 fred, 1.1 weir-0\r\nAuthorization: {TOKEN}\r\n\r\n"
    );
    let mut client = Client::connect(front.proxy_addr());
    for _ in 0..3 {
        assert_eq!(client.ask(&asked).status, 200);
    }
    let heard = heard.lock().expect("nobody panics with it");
    let vias: Vec<_> = heard
        .lines()
        .filter(|line| line.starts_with("Via:"))
        .collect();
    assert_eq!(vias.len(), 3, "{heard}");
    assert_eq!(vias[0], "Via: 1.0 fred, 1.1 weir-0");
    assert!(
        vias[1] != vias[2] && vias[1].starts_with("Via: 1.1 weir-"),
        "{vias:?}"
    );
}
