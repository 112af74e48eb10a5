//! Reading of the tables in `tests/vectors/*.http`: blocks of tagged lines.
//!
//! ```text
//! @ name | family | where it was published      begins an entry
//! > GET / HTTP/1.1\r\n                          a tag, a space, bytes; lines of one tag are one text
//! ```
//! Bytes stand for themselves but for `\r \n \t \\ \xHH`, `\{text*count}`, which is that text so
//! many times, and `{host}`, which each test fills in. A line's own end is no byte.

use std::collections::HashSet;

/// One entry of a table.
#[derive(Clone, Debug)]
pub struct Vector {
    pub name: String,
    pub family: String,
    lines: Vec<(char, String)>,
}

impl Vector {
    /// The entries of a table, whose names all differ and whose sources are all named.
    pub fn all(table: &str) -> Vec<Self> {
        let mut vectors: Vec<Self> = Vec::new();
        for line in table.lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let tag = line.chars().next().expect("not empty");
            let text = line.get(2..).unwrap_or_default();
            if tag == '@' {
                let parts: Vec<&str> = text.split(" | ").collect();
                let [name, family, source] = parts[..] else {
                    panic!("name, family and source in {line:?}");
                };
                assert!(!source.is_empty(), "{line:?}");
                vectors.push(Self {
                    name: name.to_owned(),
                    family: family.to_owned(),
                    lines: Vec::new(),
                });
                continue;
            }
            let vector = vectors.last_mut().expect("an entry begins with @");
            vector.lines.push((tag, text.to_owned()));
        }
        let names: HashSet<&str> = vectors.iter().map(|vector| &*vector.name).collect();
        assert_eq!(names.len(), vectors.len(), "two entries of one name");
        vectors
    }

    /// The text behind `tag`, unescaped; `None` if there is none.
    pub fn bytes(&self, tag: char, host: &str) -> Option<Vec<u8>> {
        let text: Vec<&str> = self.tagged(tag).collect();
        (!text.is_empty()).then(|| unescape(&text.concat().replace("{host}", host)))
    }

    /// The one line behind `tag`, as it stands; empty if there is none.
    pub fn word(&self, tag: char) -> &str {
        self.tagged(tag).next().unwrap_or_default()
    }

    fn tagged(&self, tag: char) -> impl Iterator<Item = &str> {
        let lines = self.lines.iter().filter(move |(known, _)| *known == tag);
        lines.map(|(_, text)| text.as_str())
    }
}

/// The bytes that an escaped text stands for.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let kind = rest.as_bytes()[at + 1];
        rest = &rest[at + 2..];
        match kind {
            b'r' => out.push(b'\r'),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'\\' => out.push(b'\\'),
            b'x' => {
                out.push(u8::from_str_radix(&rest[..2], 16).expect("two digits"));
                rest = &rest[2..];
            }
            b'{' => {
                let (inner, after) = rest.split_once('}').expect("closed");
                let (unit, count) = inner.rsplit_once('*').expect("text*count");
                let count: usize = count.parse().expect("a count");
                out.extend(unescape(unit).repeat(count));
                rest = after;
            }
            other => panic!("unknown escape {:?} in {text:?}", other as char),
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}
