//! Telling those who look what requests are of.
//!
//! None of it is on the way of an ordinary request: it is for requests that wait, whose wait costs
//! twenty times as much, or while somebody looks.

use super::Worker;
use super::request::Request;
use crate::http1::{Method, Parse, parse_request};
use crate::io::Buf;
use crate::limit::ClientClass;
use crate::limit::survey::sender_key;
use crate::mesh;
use crate::route::identity::Client;
use crate::route::{Route, RouteText, classify};
use crate::status::{SenderKind, SenderName};

/// Somebody looks, and here is a request.
#[cold]
pub(super) fn note(worker: &Worker, route: &Route<'_>, method: &[u8], ask: &mesh::Request) {
    if worker.process.watch.note(worker.index, ask.key) {
        tell(worker, route, method, ask);
    }
}

/// A request waits, or was refused for its token: whoever looks later wants to know what it is of. Its
/// head is in `flight`.
#[cold]
pub(super) fn name(worker: &Worker, request: &Request, flight: &Buf) {
    let ask = &request.ask;
    let sender = sender_key(ask.key.identity);
    let known = {
        let names = worker.process.watch.names();
        names.knows(ask.key.route, sender, ask.key.major)
    };
    if known {
        return;
    }
    if let Parse::Complete(head) = parse_request(flight.as_slice()) {
        let mut text = RouteText::default();
        // Its age class is told by its key; the label is the same whatever the time.
        let route = classify(head.method_bytes, head.target, 0, &mut text);
        tell(worker, &route, head.method_bytes, ask);
    }
}

fn tell(worker: &Worker, route: &Route<'_>, method: &[u8], ask: &mesh::Request) {
    let mut names = worker.process.watch.names();
    // A method that nobody knows may be anything: it is named as the metrics name it.
    let method = Method::from_bytes(method).as_str();
    names.route(ask.key.route, method, route.label);
    names.sender(sender_key(ask.key.identity), sender(ask.client));
    names.major(ask.key.major, &route.major);
}

fn sender(client: ClientClass) -> SenderName {
    match client {
        ClientClass::Bot { user_id: Some(id) } => SenderName::of(Client::Bot(id)),
        ClientClass::Bot { user_id: None } => SenderName::of(Client::Unknown),
        ClientClass::Bearer => SenderName::of(Client::Bearer),
        ClientClass::Anonymous => SenderName::of(Client::NoAuth),
        ClientClass::Webhook { .. } => SenderName::in_path(SenderKind::Webhook),
        ClientClass::Interaction => SenderName::in_path(SenderKind::Interaction),
    }
}
