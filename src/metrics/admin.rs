//! Requests to change a running weir that were refused.

use std::sync::atomic::{AtomicU64, Ordering};

use super::text::{Family, Kind};

/// Why one was. Each variant is the `reason` label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdminRefusal {
    /// `address`: it is not from this machine, and there is no `ADMIN_TOKEN`.
    Address,
    /// `browser`: a browser sent it, or may have.
    Browser,
    /// `token`: it carries no token, or a wrong one.
    Token,
    /// `too_many`: wrong tokens came from its address a moment ago.
    TooMany,
}

impl AdminRefusal {
    const LABELS: [&'static str; 4] = ["address", "browser", "token", "too_many"];

    /// The `reason` label.
    pub const fn label(self) -> &'static str {
        Self::LABELS[self as usize]
    }
}

const _: () = assert!(AdminRefusal::TooMany as usize + 1 == AdminRefusal::LABELS.len());

/// How many, by reason.
#[derive(Debug, Default)]
pub struct AdminRefused([AtomicU64; AdminRefusal::LABELS.len()]);

impl AdminRefused {
    /// One more.
    pub fn count(&self, reason: AdminRefusal) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Appends them to `out` in the text format 0.0.4.
    pub fn encode(&self, out: &mut String) {
        let family = Family {
            name: "weir_admin_refused_total",
            help: "Requests to change this weir, or to look at what is for its operators, that were refused",
            kind: Kind::Counter,
        };
        family.head(out);
        for (label, count) in AdminRefusal::LABELS.iter().zip(&self.0) {
            let count = count.load(Ordering::Relaxed);
            family.sample(out, "", &[("reason", *label)], count);
        }
    }
}

/// Appends what became of the access log's lines to `out`.
pub fn encode_access(written: u64, dropped: u64, out: &mut String) {
    let family = Family {
        name: "weir_access_log_lines_total",
        help: "Lines of the access log, written or dropped because stdout was not read in time",
        kind: Kind::Counter,
    };
    family.head(out);
    for (label, count) in [("written", written), ("dropped", dropped)] {
        family.sample(out, "", &[("outcome", label)], count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_and_lines_are_told_by_what_they_are() {
        let refused = AdminRefused::default();
        refused.count(AdminRefusal::Token);
        refused.count(AdminRefusal::Token);
        let mut text = String::new();
        refused.encode(&mut text);
        encode_access(7, 1, &mut text);
        for line in [
            "weir_admin_refused_total{reason=\"token\"} 2",
            "weir_admin_refused_total{reason=\"browser\"} 0",
            "weir_access_log_lines_total{outcome=\"written\"} 7",
            "weir_access_log_lines_total{outcome=\"dropped\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }
}
