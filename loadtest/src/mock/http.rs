//! Requests off the wire: heads by httparse, bodies by length or chunks.
//!
//! Strict on purpose: whatever could be read in two ways is refused and counted as malformed, so
//! that a proxy which forwards it is caught.

use std::ops::Range;

use super::route::Method;

/// A head larger than this is refused; Discord's front allows about as much.
pub const HEAD_MAX: usize = 64 * 1024;

/// Headers of one request at most.
const HEADERS_MAX: usize = 100;

/// Bytes of a chunk's size line at most: 16 digits and a generous extension.
const CHUNK_LINE_MAX: usize = 256;

/// How the body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// After so many bytes, zero for none.
    Length(u64),
    /// With the last chunk.
    Chunked,
}

/// Whether a head was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// The head takes this many bytes.
    Complete(usize),
    /// It is no request; says why.
    Invalid(&'static str),
}

/// A request's head: its bytes, and where in them the parts are.
#[derive(Debug)]
pub struct Head {
    raw: Vec<u8>,
    target: Range<usize>,
    authorization: Range<usize>,
    content_type: Range<usize>,
    accept_encoding: Range<usize>,
    /// Its method.
    pub method: Method,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the connection stays open after the answer.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            raw: Vec::with_capacity(1024),
            target: 0..0,
            authorization: 0..0,
            content_type: 0..0,
            accept_encoding: 0..0,
            method: Method::Get,
            framing: Framing::Length(0),
            keep_alive: true,
            expects_continue: false,
        }
    }
}

impl Head {
    /// Reads a head from the start of `buf`, using this one's memory again.
    pub fn parse(&mut self, buf: &[u8]) -> Parsed {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let len = match request.parse(buf) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if buf.len() > HEAD_MAX => {
                return Parsed::Invalid("head too large");
            }
            Ok(httparse::Status::Partial) => return Parsed::Partial,
            Err(_) => return Parsed::Invalid("not a request"),
        };
        let raw = &buf[..len];
        if memchr::memchr_iter(b'\n', raw).any(|i| i == 0 || raw[i - 1] != b'\r') {
            return Parsed::Invalid("bare LF");
        }
        let (Some(method), Some(target)) = (request.method.and_then(Method::parse), request.path)
        else {
            return Parsed::Invalid("unknown method");
        };
        let place = |part: &[u8]| {
            let start = part.as_ptr() as usize - buf.as_ptr() as usize;
            start..start + part.len()
        };
        self.method = method;
        self.target = place(target.as_bytes());
        (self.authorization, self.content_type) = (0..0, 0..0);
        self.accept_encoding = 0..0;
        self.keep_alive = request.version == Some(1);
        self.expects_continue = false;
        let (mut length, mut chunked, mut hosts) = (None, false, 0);
        for header in request.headers.iter() {
            let value = header.value;
            match header.name.len() {
                4 if is(header.name, "host") => hosts += 1,
                6 if is(header.name, "expect") => {
                    self.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
                }
                10 if is(header.name, "connection") => {
                    if value.eq_ignore_ascii_case(b"close") {
                        self.keep_alive = false;
                    } else if value.eq_ignore_ascii_case(b"keep-alive") {
                        self.keep_alive = true;
                    }
                }
                12 if is(header.name, "content-type") => self.content_type = place(value),
                13 if is(header.name, "authorization") => self.authorization = place(value),
                14 if is(header.name, "content-length") => {
                    let Some(n) = digits(value) else {
                        return Parsed::Invalid("bad length");
                    };
                    if length.is_some_and(|m| m != n) {
                        return Parsed::Invalid("two lengths");
                    }
                    length = Some(n);
                }
                15 if is(header.name, "accept-encoding") => self.accept_encoding = place(value),
                17 if is(header.name, "transfer-encoding") => {
                    if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Parsed::Invalid("unknown transfer coding");
                    }
                    chunked = true;
                }
                _ => {}
            }
        }
        if hosts != 1 && request.version == Some(1) {
            return Parsed::Invalid("not one Host");
        }
        self.framing = match (length, chunked) {
            (Some(_), true) => return Parsed::Invalid("two framings"),
            (None, true) => Framing::Chunked,
            (length, false) => Framing::Length(length.unwrap_or(0)),
        };
        self.raw.clear();
        self.raw.extend_from_slice(raw);
        Parsed::Complete(len)
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        self.text(&self.target)
    }

    /// `Authorization`, empty without.
    pub fn authorization(&self) -> &str {
        self.text(&self.authorization)
    }

    /// `Content-Type`, empty without.
    pub fn content_type(&self) -> &str {
        self.text(&self.content_type)
    }

    /// `Accept-Encoding`, empty without.
    pub fn accept_encoding(&self) -> &str {
        self.text(&self.accept_encoding)
    }

    /// The head as it came, request line and headers.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    fn text(&self, range: &Range<usize>) -> &str {
        self.raw
            .get(range.clone())
            .and_then(|b| std::str::from_utf8(b).ok())
            .unwrap_or("")
    }
}

fn is(name: &str, wanted: &str) -> bool {
    name.eq_ignore_ascii_case(wanted)
}

fn digits(value: &[u8]) -> Option<u64> {
    let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(value).ok()?.parse().ok())?
}

/// Takes a body off the wire.
#[derive(Clone, Copy, Debug)]
pub struct BodyDecoder {
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Length(u64),
    Size {
        value: u64,
        digits: u8,
        line: usize,
    },
    Extension {
        value: u64,
        line: usize,
    },
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// In the trailer section, with the bytes of its present line.
    Trailer(usize),
    TrailerLf {
        empty: bool,
    },
    Done,
}

impl BodyDecoder {
    /// A decoder for a body framed so.
    pub fn new(framing: Framing) -> Self {
        Self {
            state: match framing {
                Framing::Length(0) => State::Done,
                Framing::Length(n) => State::Length(n),
                Framing::Chunked => State::Size {
                    value: 0,
                    digits: 0,
                    line: 0,
                },
            },
        }
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes from `input`, passes data to `sink`, and tells how many bytes were used.
    ///
    /// # Errors
    /// What is wrong with the chunks.
    pub fn feed(
        &mut self,
        input: &[u8],
        mut sink: impl FnMut(&[u8]),
    ) -> Result<usize, &'static str> {
        let mut at = 0;
        while at < input.len() && !self.is_done() {
            if let State::Length(left) | State::Data(left) = self.state {
                let n = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(input.len() - at);
                sink(&input[at..at + n]);
                at += n;
                let left = left - n as u64;
                self.state = match (self.state, left) {
                    (State::Length(_), 0) => State::Done,
                    (State::Length(_), _) => State::Length(left),
                    (_, 0) => State::DataCr,
                    _ => State::Data(left),
                };
                continue;
            }
            self.state = self.step(input[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&self, byte: u8) -> Result<State, &'static str> {
        Ok(match (self.state, byte) {
            (State::Size { digits: 0, .. }, b'\r' | b';') => return Err("chunk without size"),
            (State::Size { value, .. }, b'\r') => State::SizeLf(value),
            (State::Size { value, line, .. }, b';') => State::Extension { value, line },
            (
                State::Size {
                    value,
                    digits,
                    line,
                },
                _,
            ) => {
                let digit = char::from(byte).to_digit(16).ok_or("bad chunk size")?;
                if digits >= 15 {
                    return Err("chunk too large");
                }
                let value = value * 16 + u64::from(digit);
                State::Size {
                    value,
                    digits: digits + 1,
                    line: line + 1,
                }
            }
            (State::Extension { value, .. }, b'\r') => State::SizeLf(value),
            (State::Extension { .. }, b'\n') => return Err("bare LF in chunk extension"),
            (State::Extension { value, line }, _) if line < CHUNK_LINE_MAX => State::Extension {
                value,
                line: line + 1,
            },
            (State::Extension { .. }, _) => return Err("chunk extension too long"),
            (State::SizeLf(0), b'\n') => State::Trailer(0),
            (State::SizeLf(size), b'\n') => State::Data(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size {
                value: 0,
                digits: 0,
                line: 0,
            },
            (State::Trailer(0), b'\r') => State::TrailerLf { empty: true },
            (State::Trailer(_), b'\r') => State::TrailerLf { empty: false },
            (State::Trailer(line), _) if line < HEAD_MAX && byte != b'\n' => {
                State::Trailer(line + 1)
            }
            (State::TrailerLf { empty: true }, b'\n') => State::Done,
            (State::TrailerLf { empty: false }, b'\n') => State::Trailer(0),
            _ => return Err("bad chunk"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Head, Parsed) {
        let mut head = Head::default();
        let parsed = head.parse(text.as_bytes());
        (head, parsed)
    }

    #[test]
    fn a_head_is_read_with_the_parts_the_mock_needs() {
        let text = "POST /api/v10/x?a=b HTTP/1.1\r\nHost: h\r\nauthorization: Bot t\r\n\
                    Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        let (head, parsed) = parse(text);
        assert_eq!(parsed, Parsed::Complete(text.len() - 2));
        assert_eq!(
            (head.method, head.target()),
            (Method::Post, "/api/v10/x?a=b")
        );
        assert_eq!(
            (head.authorization(), head.content_type()),
            ("Bot t", "application/json")
        );
        assert_eq!((head.framing, head.keep_alive), (Framing::Length(2), true));
        assert_eq!(parse(&text[..40]).1, Parsed::Partial);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for headers in [
            "Host: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
            "Host: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Host: h\r\nTransfer-Encoding: gzip, chunked\r\n",
            "Host: h\r\nContent-Length: +1\r\n",
            "Host: h\r\nContent-Length: \r\n",
            "Host: h\r\nHost: i\r\n",
            "Host: h\nContent-Length: 1\r\n",
            "X: y\r\n",
        ] {
            let (_, parsed) = parse(&format!("GET / HTTP/1.1\r\n{headers}\r\n"));
            assert!(
                matches!(parsed, Parsed::Invalid(_)),
                "{headers:?} gave {parsed:?}"
            );
        }
    }

    fn chunks(text: &str, step: usize) -> Result<(String, usize), &'static str> {
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        let (mut out, mut used) = (Vec::new(), 0);
        while !decoder.is_done() && used < text.len() {
            let end = (used + step).min(text.len());
            used += decoder.feed(&text.as_bytes()[used..end], |b| out.extend_from_slice(b))?;
        }
        assert!(decoder.is_done());
        Ok((String::from_utf8(out).unwrap(), used))
    }

    #[test]
    fn chunks_are_decoded_however_they_are_cut() {
        let text = "4\r\nWiki\r\n5;x=y\r\npedia\r\nA\r\n in chunks\r\n0\r\nT: v\r\n\r\nGET /next";
        for step in 1..text.len() {
            let want = (
                "Wikipedia in chunks".to_owned(),
                text.len() - "GET /next".len(),
            );
            assert_eq!(chunks(text, step).unwrap(), want, "step {step}");
        }
    }

    #[test]
    fn bad_chunks_are_refused() {
        for text in [
            "\r\n",
            "g\r\n",
            "1\nx",
            "2\r\nabX",
            "1;a\nb\r\n",
            "fffffffffffffffff\r\n",
        ] {
            let mut decoder = BodyDecoder::new(Framing::Chunked);
            assert!(decoder.feed(text.as_bytes(), |_| ()).is_err(), "{text:?}");
        }
    }
}
