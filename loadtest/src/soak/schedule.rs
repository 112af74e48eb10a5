//! What goes wrong when: a seeded row of phases, each with one or two faults, and calm between them.
//!
//! The kinds are dealt like cards: each comes once before any comes again, so that even a short run
//! meets most of them.

use std::time::Duration;

use crate::mock::faults::{Action, Fault, Rng};
use crate::mock::settings::OnAccept;

/// Answers that Discord counts as invalid, at most in one phase. Ten minutes hold fewer than 100
/// phases of them, so that the budget of 10,000 is never near.
const INVALID_MAX: u32 = 30;

/// Cloudflare's refusals in one phase: the first stops everything, the next ones meet the probes.
const CLOUDFLARE_MAX: u32 = 2;

/// What befalls the upstream as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outage {
    /// It cannot be reached, and open connections end.
    Gone,
    /// Open connections end, new ones are welcome.
    Cut,
    /// New connections meet this.
    OnAccept(OnAccept),
    /// New connections lie this long before they are read from, in milliseconds.
    SlowHandshake(u64),
}

/// One stretch of a run.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Its length.
    pub length: Duration,
    /// Faults of single requests.
    pub faults: Vec<Fault>,
    /// Faults of the whole upstream, with their names.
    pub outages: Vec<(&'static str, Outage)>,
}

#[derive(Clone, Debug)]
enum Card {
    Fault(Fault),
    Outage(&'static str, Outage),
}

/// Phases without end; equal seeds give equal rows.
#[derive(Debug)]
pub struct Schedule {
    rng: Rng,
    deck: Vec<Card>,
    length: Duration,
    calm: bool,
}

impl Schedule {
    /// The row of `seed` for a run of `length`.
    pub fn new(seed: u64, length: Duration) -> Self {
        Self {
            rng: Rng::new(seed ^ 0x5eed_5c4e_d01e),
            deck: Vec::new(),
            length: (length / 40).clamp(Duration::from_millis(400), Duration::from_secs(3)),
            calm: true,
        }
    }

    fn draw(&mut self, into: &mut Phase) {
        if self.deck.is_empty() {
            self.deck = deck();
            for i in (1..self.deck.len()).rev() {
                let j = (self.rng.fraction() * (i + 1) as f64) as usize;
                self.deck.swap(i, j);
            }
        }
        match self.deck.pop() {
            Some(Card::Fault(fault)) => into.faults.push(fault),
            Some(Card::Outage(name, outage)) => into.outages.push((name, outage)),
            None => {}
        }
    }
}

impl Iterator for Schedule {
    type Item = Phase;

    fn next(&mut self) -> Option<Phase> {
        let mut phase = Phase {
            length: self.length.mul_f64(0.5 + self.rng.fraction()),
            faults: Vec::new(),
            outages: Vec::new(),
        };
        self.calm = !self.calm;
        if self.calm {
            phase.length /= 2;
        } else {
            self.draw(&mut phase);
            if self.rng.fraction() < 0.3 {
                self.draw(&mut phase);
            }
        }
        Some(phase)
    }
}

/// Every kind once.
fn deck() -> Vec<Card> {
    // Every answer but a download's is shorter, so that this ends a download's body only.
    const HEAD_OF_A_DOWNLOAD: usize = usize::MAX;
    const DOWNLOAD: &str = "/attachments-test";
    let fault = |name: &str, probability: f64, action: Action| {
        Card::Fault(Fault::from(action).named(name).likely(probability))
    };
    let on = |part: &str, name: &str, probability: f64, action: Action| {
        Card::Fault(Fault::from(action).named(name).likely(probability).on(part))
    };
    let answer = |status: u16, headers: &[(&str, &str)], body: &str, bare: bool| Action::Answer {
        status,
        headers: headers
            .iter()
            .map(|&(n, v)| (n.to_owned(), v.to_owned()))
            .collect(),
        body: body.to_owned(),
        bare,
    };
    let limited = |scope: &str, more: &[(&str, &str)]| {
        let mut headers = vec![("x-ratelimit-scope", scope), ("retry-after", "1")];
        headers.extend_from_slice(more);
        let global = scope == "global";
        let body = format!(
            r#"{{"message": "You are being rate limited.", "retry_after": 0.4, "global": {global}}}"#
        );
        answer(429, &headers, &body, false)
    };
    let few = |card: Card, times: u32| match card {
        Card::Fault(fault) => Card::Fault(fault.times(times)),
        outage @ Card::Outage(..) => outage,
    };
    let error = |code: u32| format!(r#"{{"message": "injected", "code": {code}}}"#);
    let html = [("content-type", "text/html")];
    vec![
        fault("closed before", 0.05, Action::CloseUnprocessed),
        fault("reset before", 0.05, Action::ResetUnprocessed),
        fault("closed after", 0.05, Action::CloseAfter { bytes: 0 }),
        fault("closed in head", 0.05, Action::CloseAfter { bytes: 60 }),
        fault("reset in head", 0.05, Action::ResetAfter { bytes: 60 }),
        on(
            DOWNLOAD,
            "closed in body",
            0.5,
            Action::CloseAfter {
                bytes: HEAD_OF_A_DOWNLOAD,
            },
        ),
        on(
            DOWNLOAD,
            "reset in body",
            0.5,
            Action::ResetAfter {
                bytes: HEAD_OF_A_DOWNLOAD,
            },
        ),
        fault("hang", 0.01, Action::Hang { bytes: 0 }),
        fault("hang in head", 0.01, Action::Hang { bytes: 60 }),
        on(
            DOWNLOAD,
            "hang in body",
            0.3,
            Action::Hang {
                bytes: HEAD_OF_A_DOWNLOAD,
            },
        ),
        fault("slow", 0.05, Action::Stall { bytes: 0, ms: 700 }),
        fault("slow head", 0.05, Action::Stall { bytes: 60, ms: 700 }),
        fault("closed idle", 0.3, Action::CloseIdle),
        fault("connection: close", 0.3, Action::ConnectionClose),
        fault("garbage", 0.05, Action::Garbage { bytes: 300 }),
        fault("half head", 0.05, Action::HalfHead),
        fault(
            "two lengths",
            0.05,
            Action::Raw {
                text: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk"
                    .to_owned(),
                close: false,
            },
        ),
        fault("500", 0.05, answer(500, &[], &error(0), false)),
        fault("502", 0.05, answer(502, &html, "<html>bad gateway", true)),
        few(
            on(
                "/channels/",
                "401",
                0.05,
                answer(401, &[], &error(0), false),
            ),
            INVALID_MAX,
        ),
        few(
            on(
                "/channels/",
                "403",
                0.05,
                answer(403, &[], &error(50_001), false),
            ),
            INVALID_MAX,
        ),
        on(
            "/channels/",
            "404",
            0.05,
            answer(404, &[], &error(10_008), false),
        ),
        few(fault("429 user", 0.02, limited("user", &[])), INVALID_MAX),
        few(
            fault(
                "429 global",
                0.02,
                limited("global", &[("x-ratelimit-global", "true")]),
            ),
            INVALID_MAX,
        ),
        fault("429 shared", 0.02, limited("shared", &[])),
        few(
            fault(
                "429 cloudflare",
                0.02,
                answer(
                    429,
                    &[("retry-after", "1"), ("content-type", "text/plain")],
                    "error code: 1015",
                    true,
                ),
            ),
            CLOUDFLARE_MAX,
        ),
        Card::Outage("gone", Outage::Gone),
        Card::Outage("cut", Outage::Cut),
        Card::Outage("closes connects", Outage::OnAccept(OnAccept::Close)),
        Card::Outage("resets connects", Outage::OnAccept(OnAccept::Reset)),
        Card::Outage("hangs connects", Outage::OnAccept(OnAccept::Hang)),
        Card::Outage("slow handshakes", Outage::SlowHandshake(300)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn row(seed: u64, n: usize) -> Vec<Phase> {
        Schedule::new(seed, Duration::from_secs(60))
            .take(n)
            .collect()
    }

    #[test]
    fn a_seed_always_gives_the_same_row_and_another_one_a_different_one() {
        let names = |seed| format!("{:?}", row(seed, 30));
        assert_eq!(names(7), names(7));
        assert_ne!(names(7), names(8));
    }

    #[test]
    fn every_kind_comes_once_before_any_comes_again_and_calm_lies_between() {
        let mut seen = BTreeSet::new();
        let total = deck().len();
        for (i, phase) in row(3, 200).into_iter().enumerate() {
            let faults = phase.faults.iter().map(|f| f.label().to_owned());
            let outages = phase.outages.iter().map(|(name, _)| (*name).to_owned());
            let names: Vec<String> = faults.chain(outages).collect();
            assert_eq!(names.is_empty(), i % 2 == 1, "{phase:?}");
            for name in names {
                assert!(seen.insert(name.clone()), "{name}");
                if seen.len() == total {
                    return;
                }
            }
        }
        panic!("{} of {total} kinds came", seen.len());
    }
}
