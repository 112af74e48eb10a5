//! A status as a screenful of text. Pure: documents in, lines out.
//!
//! What is counted since the start is shown as a rate where two documents tell one. Every word of a
//! document comes from elsewhere, so nothing in it can steer the terminal ([`clean`]).

mod tables;

use tables::{buckets, neighbours, senders};

use super::text::{broken, clean, number, span, thousands};
use crate::status::{Cloudflare, Level, Percentiles, State, Status};

/// How something looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    Plain,
    Bold,
    Dim,
    Red,
    Yellow,
    Green,
}

/// One line: pieces of text and how each looks.
pub(super) type Line = Vec<(Look, String)>;

/// The last documents of one weir.
#[derive(Default)]
pub(super) struct Screen {
    before: Option<Status>,
    now: Status,
}

/// A line as it is written.
pub(super) fn paint(line: &Line, colours: bool) -> String {
    let mut out = String::new();
    for (look, text) in line {
        let code = match look {
            Look::Plain => "",
            Look::Bold => "1",
            Look::Dim => "2",
            Look::Red => "31",
            Look::Yellow => "33",
            Look::Green => "32",
        };
        if colours && !code.is_empty() {
            out += &format!("\x1b[{code}m{text}\x1b[0m");
        } else {
            out += text;
        }
    }
    out
}

impl Screen {
    /// Takes in a new document. One of a weir that was started anew has no rates yet.
    pub(super) fn see(&mut self, status: Status) {
        let before = std::mem::replace(&mut self.now, status);
        let goes_on = before.unix_ms > 0
            && before.unix_ms < self.now.unix_ms
            && before.uptime_ms < self.now.uptime_ms;
        self.before = goes_on.then_some(before);
    }

    /// A second of how a count moves; `None` without a time to tell it of.
    fn rate(&self, count: impl Fn(&Status) -> u64) -> Option<f64> {
        let before = self.before.as_ref()?;
        let ms = self.now.unix_ms.saturating_sub(before.unix_ms);
        let moved = count(&self.now).saturating_sub(count(before));
        (ms > 0).then(|| moved as f64 * 1000.0 / ms as f64)
    }

    /// Everything in one line.
    pub(super) fn line(&self) -> String {
        let now = &self.now;
        let problems = now
            .attention
            .iter()
            .filter(|item| item.level == Level::Problem);
        let state = match now.state {
            State::Serving => "serving",
            State::Draining => "draining",
        };
        format!(
            "{state} answered/s={} under_way={} waiting={} refused={} 429s={} invalid={}/{} clients={} upstream={} problems={}",
            self.rate(answered).map_or("-".to_owned(), number),
            now.requests.under_way,
            now.requests.waiting,
            total(now.requests.refused.values()),
            total(now.requests.limited.values()),
            now.guards.invalid.used,
            now.guards.invalid.max,
            now.connections.clients,
            now.connections.upstream.busy,
            problems.count(),
        )
    }

    /// Everything that fits, in lines of no more than so many columns.
    pub(super) fn lines(&self, columns: usize) -> Vec<Line> {
        let now = &self.now;
        let mut lines = vec![head(now)];
        lines.extend(attention(now, columns));
        lines.push(Line::new());
        self.requests(&mut lines);
        latency(now, &mut lines);
        guards(now, &mut lines);
        self.connections(&mut lines);
        neighbours(now, &mut lines);
        senders(now, &mut lines);
        buckets(
            "Buckets that are waited for",
            &now.buckets.blocked,
            &mut lines,
        );
        buckets("Busiest buckets", &now.buckets.busiest, &mut lines);
        lines.into_iter().map(|line| cut(line, columns)).collect()
    }

    fn requests(&self, lines: &mut Vec<Line>) {
        let requests = &self.now.requests;
        let rate = self
            .rate(answered)
            .map_or(String::new(), |rate| format!("{}/s  ", number(rate)));
        let waiting = if requests.waiting > 0 {
            Look::Bold
        } else {
            Look::Plain
        };
        lines.push(row(
            "Requests",
            [
                (Look::Bold, rate),
                plain(format!("{} under way  ", thousands(requests.under_way))),
                (waiting, format!("{} waiting", thousands(requests.waiting))),
                plain(format!(
                    " of {}  {} held back",
                    thousands(requests.waiting_max),
                    thousands(requests.held_back)
                )),
            ],
        ));
        let mut told = counts(&requests.answered, Look::Plain);
        if !requests.limited.is_empty() {
            told.push(plain("429 ".to_owned()));
            told.extend(counts(&requests.limited, Look::Yellow));
        }
        lines.push(row("Answered", told));
        if !requests.refused.is_empty() {
            lines.push(row("Refused", counts(&requests.refused, Look::Yellow)));
        }
        if !requests.errors.is_empty() {
            lines.push(row("Errors", counts(&requests.errors, Look::Yellow)));
        }
    }

    fn connections(&self, lines: &mut Vec<Line>) {
        let now = &self.now;
        let (clients, pool) = (&now.connections, &now.connections.upstream);
        let opened = self.rate(|status| status.connections.upstream.opened);
        let opened = opened.map_or(String::new(), |rate| format!(", {} opened/s", number(rate)));
        lines.push(row(
            "Connections",
            [plain(format!(
                "{} of {} clients  to Discord {} busy, {} idle of {}{opened}",
                thousands(clients.clients),
                thousands(clients.clients_max),
                thousands(pool.busy),
                thousands(pool.idle),
                thousands(pool.max),
            ))],
        ));
        let each = now.workers.iter().enumerate().map(|(index, worker)| {
            let of = |status: &Status| {
                status
                    .workers
                    .get(index)
                    .map_or(0, |worker| worker.requests)
            };
            match (worker.answers, self.rate(of)) {
                (false, _) => (Look::Red, "stuck  ".to_owned()),
                (true, Some(rate)) => plain(format!("{}/s  ", number(rate))),
                (true, None) => (Look::Green, "turns  ".to_owned()),
            }
        });
        let mut each: Line = each.collect();
        let memory = now.memory.resident_bytes.or(now.memory.held_bytes);
        if let Some(bytes) = memory {
            each.push((
                Look::Dim,
                format!("{} MiB resident", thousands(bytes >> 20)),
            ));
        }
        lines.push(row("Workers", each));
    }
}

fn answered(status: &Status) -> u64 {
    total(status.requests.answered.values())
}

fn total<'c>(counts: impl Iterator<Item = &'c u64>) -> u64 {
    counts.sum()
}

fn plain(text: String) -> (Look, String) {
    (Look::Plain, text)
}

/// Columns of the names in front of lines.
const NAME_COLUMNS: usize = 12;

fn row(name: &str, pieces: impl IntoIterator<Item = (Look, String)>) -> Line {
    let mut line = vec![(Look::Dim, format!("{name:NAME_COLUMNS$} "))];
    line.extend(pieces);
    line
}

/// `2xx 12  4xx 3`
fn counts(counts: &std::collections::BTreeMap<String, u64>, look: Look) -> Line {
    let each =
        |(name, count): (&String, &u64)| (look, format!("{} {}  ", clean(name), thousands(*count)));
    counts.iter().map(each).collect()
}

fn head(now: &Status) -> Line {
    let (look, state) = match now.state {
        State::Serving => (Look::Green, "serving"),
        State::Draining => (Look::Yellow, "draining"),
    };
    let mut line = vec![
        (Look::Bold, format!("weir {}  ", clean(&now.weir))),
        (look, state.to_owned()),
        plain(format!(
            " for {}, {}, to {}",
            span(now.uptime_ms),
            clean(&now.io_driver),
            clean(&now.upstream)
        )),
    ];
    if let Some(node) = &now.node {
        line.push((Look::Dim, format!("  node {}", clean(node))));
    }
    line
}

/// What a person should know, in as many lines as it takes.
fn attention(now: &Status, columns: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for item in &now.attention {
        let (look, word) = match item.level {
            Level::Problem => (Look::Red, "PROBLEM"),
            Level::Notice => (Look::Yellow, "notice"),
        };
        let left = item
            .left_ms
            .map_or(String::new(), |left| format!(" ({})", span(left)));
        let text = clean(&item.text) + &left;
        for (at, part) in broken(&text, columns.saturating_sub(9).max(20))
            .into_iter()
            .enumerate()
        {
            let word = if at == 0 { word } else { "" };
            lines.push(vec![(look, format!("{word:8} ")), plain(part)]);
        }
    }
    lines
}

fn latency(now: &Status, lines: &mut Vec<Line>) {
    let latency = &now.latency;
    if latency.upstream.count == 0 {
        return;
    }
    let each = |name, times: &Percentiles| {
        let ms = |time: Option<f64>| time.map_or("-".to_owned(), number);
        let (p50, p90, p99) = (ms(times.p50_ms), ms(times.p90_ms), ms(times.p99_ms));
        plain(format!("{name} {p50}/{p90}/{p99}  "))
    };
    lines.push(row(
        "Latency ms",
        [
            each("Discord", &latency.upstream),
            each("queue", &latency.queue),
            each("added", &latency.added),
            (
                Look::Dim,
                format!("50/90/99 % of {}", span(latency.over_ms)),
            ),
        ],
    ));
}

fn guards(now: &Status, lines: &mut Vec<Line>) {
    let guards = &now.guards;
    let invalid = &guards.invalid;
    let wary = invalid.max > 0 && invalid.used * 2 >= invalid.max;
    let cloudflare = match &guards.cloudflare {
        Cloudflare { blocked: false, .. } => plain("Cloudflare lets through".to_owned()),
        Cloudflare { left_ms: 0, .. } => (
            Look::Red,
            "Cloudflare blocks, one request finds out".to_owned(),
        ),
        Cloudflare { left_ms, .. } => (
            Look::Red,
            format!("Cloudflare blocks for {}", span(*left_ms)),
        ),
    };
    let locked = if now.senders.locked > 0 {
        Look::Red
    } else {
        Look::Plain
    };
    lines.push(row(
        "Guards",
        [
            (
                if wary { Look::Red } else { Look::Plain },
                format!(
                    "{} of {} invalid requests  ",
                    thousands(invalid.used),
                    thousands(invalid.max)
                ),
            ),
            cloudflare,
            (locked, format!("  {} tokens locked", now.senders.locked)),
            plain(format!("  {} dead webhooks", guards.dead_webhooks)),
        ],
    ));
}

/// A line of no more than so many columns.
fn cut(line: Line, columns: usize) -> Line {
    let mut left = columns;
    let mut out = Line::new();
    for (look, text) in line {
        let fits: String = text.chars().take(left).collect();
        left -= fits.chars().count();
        if !fits.is_empty() {
            out.push((look, fits));
        }
    }
    out
}

#[cfg(test)]
mod tests;
