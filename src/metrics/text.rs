//! The text format 0.0.4 of Prometheus (prometheus.io, "Exposition formats").

use std::fmt::{Display, Write};

/// What `# TYPE` says.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric: what stands above its samples, and how they are named.
#[derive(Clone, Copy)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
}

impl Family {
    /// Writes `# HELP` and `# TYPE`, which stand once above all samples.
    pub(super) fn head(&self, out: &mut String) {
        let Self { name, help, kind } = self;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        push(
            out,
            format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"),
        );
    }

    /// Writes one sample; `suffix` follows the name (`_bucket`), label values are escaped.
    pub(super) fn sample(
        &self,
        out: &mut String,
        suffix: &str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) {
        out.push_str(self.name);
        out.push_str(suffix);
        let mut before = '{';
        for (name, text) in labels {
            out.push(before);
            before = ',';
            out.push_str(name);
            out.push_str("=\"");
            escape(out, text);
            out.push('"');
        }
        if before == ',' {
            out.push('}');
        }
        push(out, format_args!(" {value}\n"));
    }
}

impl Family {
    /// Writes a metric that has one sample.
    pub(super) fn one(&self, out: &mut String, value: impl Display) {
        self.head(out);
        self.sample(out, "", &[], value);
    }

    /// Writes a metric with a sample for each value of one label.
    pub(super) fn by(&self, out: &mut String, label: &str, samples: &[(&str, u64)]) {
        self.head(out);
        for (value, count) in samples {
            self.sample(out, "", &[(label, value)], count);
        }
    }
}

/// Seconds with six decimals, from microseconds: exact, unlike a float.
pub(super) struct Seconds(pub(super) u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Backslash, quote and line feed are escaped; everything else stands as it is.
fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            _ => out.push(c),
        }
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "a String takes everything");
}

/// The `status` label: the code with its reason phrase (RFC 9110 15), as Go writes it. Codes that
/// have none, such as Cloudflare's 520, stand alone; 0 is a status that there was no room for.
pub(super) fn status_label(code: u16, shared: bool) -> String {
    if shared && code == 429 {
        return "429 Shared".to_owned();
    }
    match reason(code) {
        _ if code == 0 => super::OTHER.to_owned(),
        "" => code.to_string(),
        reason => format!("{code} {reason}"),
    }
}

/// The phrases of the statuses that an API may answer with.
const fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Requested Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Entity",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_label_is_the_code_with_its_phrase() {
        for (code, shared, label) in [
            (200, false, "200 OK"),
            (429, false, "429 Too Many Requests"),
            (429, true, "429 Shared"),
            (404, true, "404 Not Found"),
            (520, false, "520"),
            (0, false, "other"),
        ] {
            assert_eq!(status_label(code, shared), label);
        }
    }

    #[test]
    fn label_values_are_escaped() {
        let family = Family {
            name: "n",
            help: "h",
            kind: Kind::Gauge,
        };
        let mut out = String::new();
        family.sample(&mut out, "_x", &[("a", "\\\"\n{}é"), ("b", "")], 1);
        assert_eq!(out, "n_x{a=\"\\\\\\\"\\n{}é\",b=\"\"} 1\n");
    }

    #[test]
    fn seconds_are_written_exactly() {
        assert_eq!(Seconds(0).to_string(), "0.000000");
        assert_eq!(Seconds(1_000_001).to_string(), "1.000001");
        assert_eq!(Seconds(u64::MAX).to_string(), "18446744073709.551615");
    }
}
