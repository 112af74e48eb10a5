//! Faults on demand: which request is struck, and by what.
//!
//! Choosing is pure and seeded, so that a run of a scenario can be repeated; carrying out is the
//! connection's part.

use serde::{Deserialize, Serialize};

use super::route::Method;

/// One fault: when it strikes and what it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What the oracle counts it as; its action's kind when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Only this method.
    #[serde(default)]
    pub method: Option<String>,
    /// Only targets that contain this.
    #[serde(default)]
    pub target: Option<String>,
    /// Only authorizations that contain this.
    #[serde(default)]
    pub token: Option<String>,
    /// Matching requests let through first.
    #[serde(default)]
    pub skip: u32,
    /// How often it strikes; for ever when absent.
    #[serde(default)]
    pub times: Option<u32>,
    /// How likely it strikes a matching request, 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    /// What it does.
    pub action: Action,
}

/// What befalls a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Close after its head, before anything was processed.
    CloseUnprocessed,
    /// Reset after its head, before anything was processed.
    ResetUnprocessed,
    /// Process it, then send the first `bytes` of the answer and close.
    CloseAfter {
        /// Bytes of the answer that still arrive.
        bytes: usize,
    },
    /// Process it, then send the first `bytes` of the answer and reset.
    ResetAfter {
        /// Bytes of the answer that still arrive.
        bytes: usize,
    },
    /// Process it, send the first `bytes` of the answer, then nothing until the client leaves.
    Hang {
        /// Bytes of the answer that still arrive.
        #[serde(default)]
        bytes: usize,
    },
    /// Process it, send the first `bytes`, pause, then send the rest.
    Stall {
        /// Bytes of the answer before the pause.
        #[serde(default)]
        bytes: usize,
        /// The pause in milliseconds.
        ms: u64,
    },
    /// Process it, answer, then close without having announced it.
    CloseIdle,
    /// Process it and answer with `Connection: close`.
    ConnectionClose,
    /// Do not process it; send these bytes in place of an answer.
    Raw {
        /// What is sent, as it is.
        text: String,
        /// Whether the connection is closed afterwards.
        #[serde(default)]
        close: bool,
    },
    /// Do not process it; send this many bytes that are not HTTP, and close.
    Garbage {
        /// How many bytes.
        bytes: usize,
    },
    /// Do not process it; send half of an answer's head and close.
    HalfHead,
    /// Do not process it; answer this.
    Answer {
        /// Status code.
        status: u16,
        /// Headers beside the usual ones.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// Body.
        #[serde(default)]
        body: String,
        /// Whether `Via` and the other marks of Discord are missing, as from Cloudflare itself.
        #[serde(default)]
        bare: bool,
    },
}

impl Action {
    /// Its name, as settings have it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CloseUnprocessed => "close_unprocessed",
            Self::ResetUnprocessed => "reset_unprocessed",
            Self::CloseAfter { .. } => "close_after",
            Self::ResetAfter { .. } => "reset_after",
            Self::Hang { .. } => "hang",
            Self::Stall { .. } => "stall",
            Self::CloseIdle => "close_idle",
            Self::ConnectionClose => "connection_close",
            Self::Raw { .. } => "raw",
            Self::Garbage { .. } => "garbage",
            Self::HalfHead => "half_head",
            Self::Answer { .. } => "answer",
        }
    }

    /// Whether the request is processed (counted by the limits, taken as sent) all the same.
    pub fn is_processed(&self) -> bool {
        match self {
            Self::CloseAfter { .. }
            | Self::ResetAfter { .. }
            | Self::Hang { .. }
            | Self::Stall { .. }
            | Self::CloseIdle
            | Self::ConnectionClose => true,
            Self::CloseUnprocessed
            | Self::ResetUnprocessed
            | Self::Raw { .. }
            | Self::Garbage { .. }
            | Self::HalfHead
            | Self::Answer { .. } => false,
        }
    }
}

/// A fault that always strikes, without conditions.
impl From<Action> for Fault {
    fn from(action: Action) -> Self {
        Self {
            name: None,
            method: None,
            target: None,
            token: None,
            skip: 0,
            times: None,
            probability: 1.0,
            action,
        }
    }
}

impl Fault {
    /// The same fault, striking `n` times only.
    #[must_use]
    pub fn times(self, n: u32) -> Self {
        Self {
            times: Some(n),
            ..self
        }
    }

    /// The same fault, counted under this name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            ..self
        }
    }

    /// The same fault, striking by chance.
    #[must_use]
    pub fn likely(self, probability: f64) -> Self {
        Self {
            probability,
            ..self
        }
    }

    /// What the oracle counts it as.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(self.action.kind())
    }

    /// The same fault for targets that contain `part`.
    #[must_use]
    pub fn on(self, part: &str) -> Self {
        Self {
            target: Some(part.to_owned()),
            ..self
        }
    }

    fn matches(&self, method: Method, target: &str, authorization: &str) -> bool {
        self.method.as_deref().is_none_or(|m| m == method.as_str())
            && self.target.as_deref().is_none_or(|t| target.contains(t))
            && self
                .token
                .as_deref()
                .is_none_or(|t| authorization.contains(t))
    }
}

/// The faults of a scenario and how far each is used up.
#[derive(Debug)]
pub struct Faults {
    list: Vec<(Fault, u32)>,
    rng: Rng,
}

impl Faults {
    /// Nothing strikes yet.
    pub fn new(seed: u64) -> Self {
        Self {
            list: Vec::new(),
            rng: Rng::new(seed),
        }
    }

    /// Replaces all faults; what was used up of the old ones is forgotten.
    pub fn replace(&mut self, faults: &[Fault]) {
        self.list = faults.iter().map(|f| (f.clone(), 0)).collect();
    }

    /// Whether any fault is set.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What strikes this request.
    pub fn strike(&mut self, method: Method, target: &str, authorization: &str) -> Option<&Fault> {
        for (fault, seen) in &mut self.list {
            let last = fault
                .times
                .map_or(u32::MAX, |n| n.saturating_add(fault.skip));
            if *seen >= last
                || !fault.matches(method, target, authorization)
                || fault.probability < 1.0 && self.rng.fraction() >= fault.probability
            {
                continue;
            }
            *seen = seen.saturating_add(1);
            if *seen > fault.skip {
                return Some(fault);
            }
        }
        None
    }
}

/// A small seeded generator (splitmix64): repeatable, not secret.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose numbers follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `[0, 1)`.
    pub fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn always() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(faults: &mut Faults, target: &str, n: usize) -> Vec<bool> {
        (0..n)
            .map(|_| faults.strike(Method::Get, target, "Bot a").is_some())
            .collect()
    }

    #[test]
    fn a_fault_skips_then_strikes_its_times_and_is_used_up() {
        let mut faults = Faults::new(1);
        let fault = Fault {
            skip: 1,
            ..Fault::from(Action::HalfHead).times(2).on("/x")
        };
        faults.replace(&[fault]);
        assert_eq!(strikes(&mut faults, "/y", 1), [false]);
        assert_eq!(
            strikes(&mut faults, "/x", 5),
            [false, true, true, false, false]
        );
    }

    #[test]
    fn a_fault_may_be_likely_instead_of_certain() {
        let mut faults = Faults::new(7);
        faults.replace(&[Fault {
            probability: 0.25,
            ..Fault::from(Action::CloseIdle)
        }]);
        let hits = strikes(&mut faults, "/", 4000)
            .into_iter()
            .filter(|&b| b)
            .count();
        assert!((800..1200).contains(&hits), "{hits}");
    }

    #[test]
    fn a_fault_is_bound_to_method_and_token() {
        let mut faults = Faults::new(1);
        let method = Some("POST".to_owned());
        let token = Some("bot-b".to_owned());
        faults.replace(&[Fault {
            method,
            token,
            ..Fault::from(Action::CloseIdle)
        }]);
        assert_eq!(faults.strike(Method::Get, "/", "Bot bot-b"), None);
        assert_eq!(faults.strike(Method::Post, "/", "Bot bot-a"), None);
        assert!(faults.strike(Method::Post, "/", "Bot bot-b").is_some());
    }

    #[test]
    fn actions_are_written_as_json() {
        let fault: Fault =
            serde_json::from_str(r#"{"target":"/x","times":1,"action":{"kind":"hang"}}"#).unwrap();
        assert_eq!(
            fault,
            Fault::from(Action::Hang { bytes: 0 }).on("/x").times(1)
        );
    }
}
