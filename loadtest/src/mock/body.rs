//! What a request's body tells: its size, its hash, its JSON, its files. Memory stays flat.

use ring::digest::{Context, SHA256};

use super::multipart::{File, Multipart};

/// JSON kept of one body; larger bodies are measured and hashed only.
const JSON_MAX: usize = 64 * 1024;

/// Bodies from this size on are hashed: below it, the hash costs more than all the rest.
const HASHED_FROM: u64 = 4096;

/// A body being read, then what is known of it.
#[derive(Default)]
pub struct Body {
    /// Bytes so far.
    pub bytes: u64,
    /// The JSON body, or the `payload_json` part of an upload, cut at 64 KiB.
    pub json: Vec<u8>,
    multipart: Option<Box<Multipart>>,
    hash: Option<Context>,
}

impl Body {
    /// Makes ready for the next body, of `length` bytes if that is known.
    pub fn begin(&mut self, content_type: &str, length: Option<u64>) {
        self.bytes = 0;
        self.json.clear();
        self.multipart = Multipart::of(content_type).map(Box::new);
        let hashed = length.is_none_or(|n| n >= HASHED_FROM);
        self.hash = hashed.then(|| Context::new(&SHA256));
    }

    /// Reads on.
    pub fn feed(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(data);
        }
        let json = &mut self.json;
        let mut keep = |part: &[u8]| {
            let room = JSON_MAX.saturating_sub(json.len()).min(part.len());
            json.extend_from_slice(&part[..room]);
        };
        match &mut self.multipart {
            Some(multipart) => multipart.feed(data, keep),
            None => keep(data),
        }
    }

    /// The files of an upload.
    pub fn files(&self) -> &[File] {
        self.multipart.as_ref().map_or(&[], |m| &m.files)
    }

    /// SHA-256 in hexadecimal, of chunked bodies and of those from 4 KiB on.
    pub fn sha256(&self) -> Option<String> {
        let digest = self.hash.clone()?.finish();
        Some(digest.as_ref().iter().map(|b| format!("{b:02x}")).collect())
    }

    /// The JSON string that is the message's content, quotes included and escapes untouched.
    pub fn content(&self) -> &[u8] {
        const KEY: &[u8] = b"\"content\"";
        let Some(at) = memchr::memmem::find(&self.json, KEY) else {
            return b"\"\"";
        };
        let value = self.json[at + KEY.len()..].trim_ascii_start();
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii_start();
        let Some(text) = value.strip_prefix(b"\"") else {
            return b"\"\"";
        };
        let mut escaped = false;
        for (i, &byte) in text.iter().enumerate() {
            match byte {
                b'"' if !escaped => return &value[..i + 2],
                b'\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        b"\"\""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(json: &str) -> String {
        let mut body = Body::default();
        body.begin("application/json", None);
        body.feed(json.as_bytes());
        String::from_utf8(body.content().to_vec()).unwrap()
    }

    #[test]
    fn the_content_is_taken_as_it_was_written() {
        assert_eq!(
            content(r#"{"tts":false,"content" : "a \"b\" \\"}"#),
            r#""a \"b\" \\""#
        );
        assert_eq!(content(r#"{"content":null}"#), r#""""#);
        assert_eq!(content(r#"{"content":"cut"#), r#""""#);
        assert_eq!(content("{}"), r#""""#);
    }

    #[test]
    fn large_bodies_are_hashed_and_json_is_cut() {
        let mut body = Body::default();
        body.begin("application/json", Some(200_000));
        for _ in 0..2 {
            body.feed(&[b'x'; 100_000]);
        }
        assert_eq!((body.bytes, body.json.len()), (200_000, JSON_MAX));
        let hash = body.sha256().unwrap();
        // As Python's hashlib has it.
        assert_eq!(
            hash,
            "91e3faafd322bcdf160f3f0ce886acb092b9b9e2a1e8526b40f21a8898a8700b"
        );
        body.begin("application/json", Some(10));
        body.feed(b"0123456789");
        assert_eq!(body.sha256(), None);
    }
}
