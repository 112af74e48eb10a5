//! The listening side's TLS in numbers.

use super::text::{Family, Kind};

/// Why a client's handshake came to nothing. Each variant is the `reason` label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeFailure {
    /// `plain_http`: the client speaks HTTP without TLS.
    PlainHttp,
    /// `certificate`: the client showed no certificate, or none that is accepted, or accepts weir's not.
    Certificate,
    /// `timeout`: it did not end within `CLIENT_HEADER_TIMEOUT`.
    Timeout,
    /// `gone`: the client hung up.
    Gone,
    /// `protocol`: no version, cipher or protocol in common, or what came is no TLS.
    Protocol,
}

impl HandshakeFailure {
    const LABELS: [&'static str; 5] = ["plain_http", "certificate", "timeout", "gone", "protocol"];
}

const _: () = assert!(HandshakeFailure::Protocol as usize + 1 == HandshakeFailure::LABELS.len());

/// Handshakes with clients, and how often certificates were read again. The fields are to be counted
/// up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tls {
    /// Handshakes in full.
    pub handshakes: u64,
    /// Handshakes that resumed an earlier session.
    pub resumed: u64,
    /// Times that certificate and key were read again and are used.
    pub reloads: u64,
    /// Times that they could not be used, and the old ones stayed.
    pub reloads_failed: u64,
    pub(super) failed: [u64; HandshakeFailure::LABELS.len()],
}

impl Tls {
    /// Counts a handshake that came to nothing.
    pub fn fail(&mut self, why: HandshakeFailure) {
        self.failed[why as usize] += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        // Named in full, so that a new field cannot be forgotten here.
        let Self {
            handshakes,
            resumed,
            reloads,
            reloads_failed,
            failed,
        } = other;
        self.handshakes += handshakes;
        self.resumed += resumed;
        self.reloads += reloads;
        self.reloads_failed += reloads_failed;
        for (ours, theirs) in self.failed.iter_mut().zip(failed) {
            *ours += theirs;
        }
    }

    pub(super) fn encode(&self, out: &mut String) {
        let mut family = |name, help, label, samples: &[(&str, u64)]| {
            let family = Family {
                name,
                help,
                kind: Kind::Counter,
            };
            family.head(out);
            for &(value, count) in samples {
                family.sample(out, "", &[(label, value)], count);
            }
        };
        family(
            "weir_client_tls_handshakes_total",
            "TLS handshakes with clients: full, and resumed (without certificates)",
            "kind",
            &[("full", self.handshakes), ("resumed", self.resumed)],
        );
        let failed: Vec<_> = HandshakeFailure::LABELS
            .into_iter()
            .zip(self.failed)
            .collect();
        family(
            "weir_client_tls_failures_total",
            "TLS handshakes with clients that came to nothing",
            "reason",
            &failed,
        );
        family(
            "weir_tls_reloads_total",
            "Times that the certificate for clients was read again, and used or refused",
            "result",
            &[("used", self.reloads), ("refused", self.reloads_failed)],
        );
    }
}
