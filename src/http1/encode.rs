//! Writing heads for the other side: the lines that stay are copied in runs, as they arrived.

use super::fields::Fields;
use super::framing::Framing;
use super::hop::Role;
use super::{HEAD_BYTES_MAX, HEADERS_MAX, RequestHead, ResponseHead, Version};
use crate::caseless::is;

/// Room for what is written beyond the lines that arrived: a version, a status, a few digits and
/// a `Connection` line.
const EXTRA_BYTES: usize = 96;

/// The longest heads that have room for more than the first node must add: four lines are added there at
/// the most, `Host`, two about the node, and a name, which has as many bytes as an id may. Who relays it on
/// takes out what stands about itself, and adds a line more than that.
const ROOMY_LINES_MAX: usize = HEADERS_MAX - 4;
const ROOMY_BYTES_MAX: usize = HEAD_BYTES_MAX - 1024;

/// A request on its way to another node of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop<'a> {
    /// What the other node is called.
    pub node: &'a [u8],
    /// How often the request was relayed before: as many lines and one more say where it goes.
    pub before: u8,
    /// What the request was called here, if its client gave it no name.
    pub id: Option<&'a str>,
}

/// A status line without a reason, nor the space before it.
const STATUS_LINE_LEN: usize = b"HTTP/1.1 200".len();

/// What becomes of a line.
pub(super) enum Edit<'v> {
    Keep,
    Drop,
    /// The name stays as it was sent, the value is this one.
    Value(&'v [u8]),
}

/// Copies the lines of `fields` to `out`, edited by their roles. A length that stays has no blanks
/// around it but one: which of them are blanks is what readers of this line disagree about.
pub(super) fn copy_lines<'v>(
    fields: &Fields<'v>,
    out: &mut Vec<u8>,
    edit: impl Fn(Role) -> Edit<'v>,
) {
    let mut from = fields.line_at(0);
    for (at, role) in fields.roles() {
        let mut edit = edit(role);
        if role == Role::ContentLength && matches!(edit, Edit::Keep) && !fields.is_tidy(at) {
            edit = Edit::Value(fields.value(at));
        }
        if matches!(edit, Edit::Keep) {
            continue;
        }
        out.extend_from_slice(fields.raw(from, fields.line_at(at)));
        from = fields.line_at(at + 1);
        if let Edit::Value(value) = edit {
            push_line(out, fields.name(at), value);
        }
    }
    out.extend_from_slice(fields.raw(from, fields.line_at(fields.len())));
}

/// Writes one header line.
pub(super) fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A number in decimal digits, without allocating.
pub(super) struct Decimal {
    digits: [u8; 20],
    from: usize,
}

impl Decimal {
    pub(super) fn new(mut number: u64) -> Self {
        let mut digits = [b'0'; 20];
        let mut from = digits.len() - 1;
        loop {
            digits[from] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self { digits, from };
            }
            from -= 1;
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.digits[self.from..]
    }
}

impl RequestHead<'_> {
    /// Writes the head for the upstream, which is called `host` and spoken to in HTTP/1.1.
    ///
    /// Method, target and lines go on as they arrived, in their order; hop-by-hop lines, `Expect`
    /// (it has been answered) and those meant for weir are left out. `Host` stays where it was
    /// and gets the value `host`. The body follows as it arrives: [`Framing`] is kept.
    pub fn encode(&self, host: &[u8], out: &mut Vec<u8>) {
        self.write(host, None, out);
    }

    /// [`Self::encode`], with a `Via` line behind all others that says through whom it went (RFC 9110
    /// 7.6.3).
    pub fn encode_via(&self, host: &[u8], by: &[u8], out: &mut Vec<u8>) {
        self.encode(host, out);
        out.truncate(out.len() - b"\r\n".len());
        out.extend_from_slice(b"Via: 1.1 ");
        out.extend_from_slice(by);
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// Whether it went through `by` already, by what its `Via` lines say.
    pub fn went_through(&self, by: &[u8]) -> bool {
        let vias = self.headers().filter(|(name, _)| is(name, b"via"));
        let hops = vias.flat_map(|(_, value)| value.split(|byte| b", \t".contains(byte)));
        hops.into_iter().any(|part| part == by)
    }

    /// Writes the head for another node of the cluster: as for the upstream, but what the client said to
    /// weir goes along.
    pub fn encode_relayed(&self, hop: &Hop<'_>, out: &mut Vec<u8>) {
        self.write(hop.node, Some(hop), out);
    }

    /// Whether there is room for what is written beside its lines when it is relayed, once more.
    pub fn has_room(&self) -> bool {
        self.fields.len() <= ROOMY_LINES_MAX && self.fields.head_len() <= ROOMY_BYTES_MAX
    }

    fn write(&self, host: &[u8], hop: Option<&Hop<'_>>, out: &mut Vec<u8>) {
        out.reserve(self.fields.head_len() + host.len() + EXTRA_BYTES);
        out.extend_from_slice(self.method_bytes);
        out.push(b' ');
        out.extend_from_slice(self.target);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if self.fields.find(Role::Host, 0).is_none() {
            push_line(out, b"Host", host);
        }
        copy_lines(&self.fields, out, |role| match role {
            Role::EndToEnd | Role::Authorization | Role::ContentLength | Role::RequestId => {
                Edit::Keep
            }
            Role::Host => Edit::Value(host),
            Role::TransferEncoding => Edit::Value(b"chunked"),
            Role::AbortAfter if hop.is_some() => Edit::Keep,
            Role::Connection
            | Role::Expect
            | Role::HopByHop
            | Role::AbortAfter
            | Role::RoutedTo
            | Role::NodePass
            | Role::NodeRequestId
            | Role::FramingLookAlike => Edit::Drop,
        });
        if let Some(hop) = hop {
            for _ in 0..=hop.before {
                push_line(out, b"nirn-routed-to", hop.node);
            }
            // A name is no reason to make a head too long for the other side.
            if let Some(id) = hop.id.filter(|_| self.has_room()) {
                push_line(out, b"weir-request-id", id.as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// What an answer's receiver can take and wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientSide {
    /// The version of the request.
    pub version: Version,
    /// Whether the connection shall stay open if the answer's framing allows it.
    pub keep_alive: bool,
}

/// How the body has to follow an encoded response head.
#[must_use = "the head just written promises this framing"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relay {
    /// Only the data of the chunks is to be sent, see [`super::BodyTracker::decode`]; otherwise
    /// the body goes on as it arrives.
    pub dechunk: bool,
    /// Whether the client connection stays open after the body; if not, closing it ends the body
    /// where nothing else does.
    pub keep_alive: bool,
}

impl ResponseHead<'_> {
    /// Writes the head for a client and says how the body follows.
    ///
    /// Lines go on as they arrived, in their order, without the hop-by-hop ones; the framing is
    /// declared once, and `Connection` is added where the version's default is not what is meant.
    /// A client of HTTP/1.0 gets a chunked body as plain bytes ended by closing.
    pub fn encode(&self, to: ClientSide, out: &mut Vec<u8>) -> Relay {
        let chunked = self.framing == Framing::Chunked;
        let dechunk = chunked && to.version == Version::Http10;
        let keep_alive = to.keep_alive && !dechunk && self.framing != Framing::UntilClose;

        out.reserve(self.fields.head_len() + EXTRA_BYTES);
        self.push_status_line(out);
        copy_lines(&self.fields, out, |role| {
            self.edit(role, chunked && !dechunk)
        });
        if !self.is_interim() {
            push_connection(out, ClientSide { keep_alive, ..to });
        }
        out.extend_from_slice(b"\r\n");
        Relay {
            dechunk,
            keep_alive,
        }
    }

    /// What becomes of a line of this role, for a client that is sent a `chunked` body or another.
    fn edit(&self, role: Role, chunked: bool) -> Edit<'static> {
        match role {
            // RFC 9110 8.6: no length in 1xx and 204; whatever it announced does not follow.
            Role::ContentLength if self.is_interim() || self.status == 204 => Edit::Drop,
            Role::TransferEncoding if chunked => Edit::Value(b"chunked"),
            Role::EndToEnd
            | Role::ContentLength
            | Role::Host
            | Role::Authorization
            | Role::Expect
            | Role::AbortAfter
            | Role::RoutedTo
            | Role::NodePass
            | Role::RequestId
            | Role::NodeRequestId => Edit::Keep,
            Role::TransferEncoding | Role::Connection | Role::HopByHop | Role::FramingLookAlike => {
                Edit::Drop
            }
        }
    }

    /// Whether [`Self::encode`] writes the very bytes that came, for a client of HTTP/1.1 whose connection
    /// is to stay open: as of an answer that another node has written so already.
    pub fn is_as_encoded(&self) -> bool {
        let line = self.fields.start_line();
        let chunked = self.framing == Framing::Chunked;
        let stays = |(at, role): (usize, Role)| match self.edit(role, chunked) {
            // See `copy_lines`.
            Edit::Keep => role != Role::ContentLength || self.fields.is_tidy(at),
            Edit::Value(value) => self.fields.is_tidy(at) && self.fields.value(at) == value,
            Edit::Drop => false,
        };
        self.version == Version::Http11
            && line.len() > STATUS_LINE_LEN
            && self.framing != Framing::UntilClose
            && self.fields.roles().all(stays)
    }

    /// `HTTP/1.1`, whatever the upstream speaks, then status and reason as they arrived.
    fn push_status_line(&self, out: &mut Vec<u8>) {
        let line = self.fields.start_line();
        out.extend_from_slice(b"HTTP/1.1");
        out.extend_from_slice(line.get(b"HTTP/1.1".len()..).unwrap_or_default());
        if line.len() == STATUS_LINE_LEN {
            // The space belongs to the grammar even if no reason follows.
            out.push(b' ');
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes `Connection` where the default of the client's version says otherwise.
pub(super) fn push_connection(out: &mut Vec<u8>, to: ClientSide) {
    match (to.version, to.keep_alive) {
        (Version::Http11, true) | (Version::Http10, false) => {}
        (Version::Http11, false) => out.extend_from_slice(b"Connection: close\r\n"),
        (Version::Http10, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
    }
}

#[cfg(test)]
mod tests;
