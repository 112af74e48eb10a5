//! The forward proxy end to end: tunnels and requests, caps and lines, rules and credentials, on both
//! drivers.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, too"
)]

#[path = "../support/mod.rs"]
mod support;

mod caps;
mod dprl;
mod endings;
mod memory;
mod operator;
mod requests;
mod rules;
mod tunnels;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use support::http::{Answer, Client};
use support::target;
use weir::ForwardProxy;
use weir::config::IoDriver;
use weir::egress::Options;

/// Both drivers.
const DRIVERS: [IoDriver; 2] = [IoDriver::Auto, IoDriver::Epoll];

/// A proxy of two workers that may reach this machine.
fn start(change: impl FnOnce(&mut Options)) -> ForwardProxy {
    let mut options = Options {
        workers: 2,
        ..Options::default()
    };
    options.settings.allow = Some("127.0.0.0/8,::1".parse().unwrap());
    change(&mut options);
    ForwardProxy::start(options).expect("the proxy starts")
}

fn connect_line(target: SocketAddr) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
}

/// A client that asks for a tunnel, with the answer.
fn ask(proxy: &ForwardProxy, target: SocketAddr) -> (Client, Answer) {
    let mut client = Client::connect(proxy.addr());
    client.send(connect_line(target));
    // Without a length, so that it would be read to its end otherwise.
    let answer = client.answer(true);
    (client, answer)
}

/// A tunnel that stands.
fn tunnel(proxy: &ForwardProxy, target: SocketAddr) -> TcpStream {
    let mut client = Client::connect(proxy.addr());
    client.send(connect_line(target));
    // Byte by byte: what comes behind the head is the tunnel's, and may come with it.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.stream.read_exact(&mut byte).expect("an answer");
        head.extend_from_slice(&byte);
    }
    assert!(
        head.starts_with(b"HTTP/1.1 200 "),
        "{}",
        head.escape_ascii()
    );
    client.stream
}

/// Whether bytes come back through it.
fn echoes(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("it takes bytes");
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).expect("they come back");
    assert_eq!(back, bytes);
}

/// An absolute-form request.
fn get(target: SocketAddr, path: &str) -> String {
    format!("GET http://{target}{path} HTTP/1.1\r\nHost: {target}\r\n\r\n")
}

const SOON: Duration = Duration::from_secs(5);
