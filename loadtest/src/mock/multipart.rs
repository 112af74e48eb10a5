//! Multipart uploads as they stream by: the JSON is kept, files are only measured.
//!
//! Memory is one delimiter and one part's head, whatever a file's size; the search runs at the
//! speed of memchr.

use memchr::memmem::Finder;

/// Parts remembered; Discord allows ten files and the JSON.
const PARTS_MAX: usize = 32;

/// A part's head larger than this ends the reading of parts.
const PART_HEAD_MAX: usize = 8 * 1024;

/// A file of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Its name as sent.
    pub name: String,
    /// Its `Content-Type`, empty without.
    pub content_type: String,
    /// Its size.
    pub bytes: u64,
}

/// Reads one multipart body.
#[derive(Debug)]
pub struct Multipart {
    delimiter: Vec<u8>,
    finder: Finder<'static>,
    state: State,
    carry: Vec<u8>,
    /// The files so far.
    pub files: Vec<File>,
    in_json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Before the first delimiter or in a part's data.
    Data,
    /// In a part's head.
    Head,
    /// After the last delimiter.
    End,
}

impl Multipart {
    /// A reader for this `Content-Type`; `None` when it is no multipart.
    pub fn of(content_type: &str) -> Option<Self> {
        let rest = content_type.strip_prefix("multipart/form-data")?;
        let boundary = rest
            .split(';')
            .find_map(|p| p.trim().strip_prefix("boundary="))?;
        let boundary = boundary.trim_matches('"');
        if boundary.is_empty() || boundary.len() > 70 {
            return None;
        }
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        Some(Self {
            finder: Finder::new(&delimiter).into_owned(),
            delimiter,
            state: State::Data,
            // The body begins as if a line had ended before it.
            carry: b"\r\n".to_vec(),
            files: Vec::new(),
            in_json: false,
        })
    }

    /// Reads on; JSON goes to `json`.
    pub fn feed(&mut self, input: &[u8], mut json: impl FnMut(&[u8])) {
        let mut buf = std::mem::take(&mut self.carry);
        // Large inputs are searched in place, but for the few bytes that were carried over.
        let mut rest = input;
        loop {
            let head = rest.len().min(self.delimiter.len() + PART_HEAD_MAX);
            let in_buf = !buf.is_empty();
            if in_buf {
                buf.extend_from_slice(&rest[..head]);
                rest = &rest[head..];
            }
            let used = self.read(if in_buf { &buf } else { rest }, &mut json);
            if in_buf {
                buf.drain(..used);
            } else {
                buf.extend_from_slice(&rest[used..]);
                rest = &[];
            }
            if rest.is_empty() {
                break;
            }
        }
        self.carry = buf;
    }

    /// Reads what can be decided in `input`; the rest is needed again.
    fn read(&mut self, input: &[u8], json: &mut impl FnMut(&[u8])) -> usize {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            match self.state {
                State::End => return input.len(),
                State::Data => match self.finder.find(rest) {
                    Some(end) => {
                        self.data(&rest[..end], json);
                        at += end + self.delimiter.len();
                        self.state = State::Head;
                    }
                    None => {
                        let sure = rest.len().saturating_sub(self.delimiter.len() - 1);
                        self.data(&rest[..sure], json);
                        return at + sure;
                    }
                },
                State::Head => {
                    if rest.starts_with(b"--") {
                        self.state = State::End;
                    } else if let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") {
                        self.part(&rest[..end]);
                        at += end + 4;
                        self.state = State::Data;
                    } else if rest.len() > PART_HEAD_MAX {
                        self.state = State::End;
                    } else {
                        return at;
                    }
                }
            }
        }
    }

    fn data(&mut self, data: &[u8], json: &mut impl FnMut(&[u8])) {
        if self.in_json {
            json(data);
        } else if let Some(file) = self.files.last_mut() {
            file.bytes += data.len() as u64;
        }
    }

    fn part(&mut self, head: &[u8]) {
        let head = String::from_utf8_lossy(head);
        let parameter = |name: &str| {
            let from = head.find(name)? + name.len();
            head[from..].split('"').next()
        };
        self.in_json = parameter(" name=\"") == Some("payload_json");
        if self.in_json || self.files.len() >= PARTS_MAX {
            return;
        }
        let content_type = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-type")
                .then(|| value.trim().to_owned())
        });
        self.files.push(File {
            name: parameter("filename=\"").unwrap_or_default().to_owned(),
            content_type: content_type.unwrap_or_default(),
            bytes: 0,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "--XyZ\r\nContent-Disposition: form-data; name=\"files[0]\"; \
        filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\nhello\r\n--XyY\r\n\
        --XyZ\r\nContent-Disposition: form-data; name=\"payload_json\"\r\n\r\n\
        {\"content\":\"seq:1\"}\r\n--XyZ\r\nContent-Disposition: form-data; \
        name=\"files[1]\"; filename=\"empty\"\r\n\r\n\r\n--XyZ--\r\n";

    fn read(step: usize) -> (Vec<File>, String) {
        let mut parts = Multipart::of("multipart/form-data; boundary=XyZ").unwrap();
        let mut json = Vec::new();
        for piece in BODY.as_bytes().chunks(step) {
            parts.feed(piece, |b| json.extend_from_slice(b));
        }
        (parts.files, String::from_utf8(json).unwrap())
    }

    #[test]
    fn files_are_measured_and_json_is_kept_however_the_body_is_cut() {
        for step in 1..=BODY.len() {
            let (files, json) = read(step);
            assert_eq!(json, r#"{"content":"seq:1"}"#, "step {step}");
            assert_eq!(files.len(), 2, "step {step}");
            let first = File {
                name: "a.txt".into(),
                content_type: "text/plain".into(),
                bytes: "hello\r\n--XyY".len() as u64,
            };
            assert_eq!(files[0], first, "step {step}");
            assert_eq!((files[1].name.as_str(), files[1].bytes), ("empty", 0));
        }
    }

    #[test]
    fn a_large_file_leaves_no_more_than_a_delimiter_in_memory() {
        let mut parts = Multipart::of("multipart/form-data; boundary=\"b\"").unwrap();
        parts.feed(
            b"--b\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n",
            |_| (),
        );
        let block = vec![b'\r'; 100_000];
        for _ in 0..50 {
            parts.feed(&block, |_| ());
            assert!(
                parts.carry.len() < 16,
                "{} bytes carried",
                parts.carry.len()
            );
        }
        parts.feed(b"\r\n--b--", |_| ());
        assert_eq!(parts.files[0].bytes, 5_000_000);
    }

    #[test]
    fn what_is_no_multipart_has_no_reader() {
        for content_type in [
            "application/json",
            "",
            "multipart/form-data",
            "multipart/form-data; boundary=",
        ] {
            assert!(Multipart::of(content_type).is_none(), "{content_type}");
        }
    }
}
