//! What a fleet counts, for the metrics.

/// How it stands between this proxy and Redis.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Standing {
    /// Redis cannot be asked: `REDIS_FAIL` holds.
    #[default]
    Away,
    /// There is a connection; Redis is being told what is open here.
    Joining,
    /// Redis was started anew and is waited with until the whole fleet has told what is open.
    Settling,
    /// The fleet shares its caps.
    Shared,
}

/// Counts since the start, and how it stands now. All but the last few only ever grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Asks that Redis granted, and those of hosts without a cap.
    pub granted: u64,
    /// Asks that Redis had no place for.
    pub full: u64,
    /// Asks that nobody could answer, and the policy or a full queue refused.
    pub refused: u64,
    /// Asks that were granted without Redis.
    pub alone_granted: u64,
    /// Asks for which this proxy's own part of the cap had no place, without Redis.
    pub alone_full: u64,
    /// Asks that Redis did not answer in time, although there was a connection.
    pub late: u64,
    /// Places that Redis granted to nobody who still waited; each is given back.
    pub late_grants: u64,
    /// Times that Redis was lost.
    pub lost: u64,
    /// Times that the fleet was joined: the first one, and each after Redis was lost or had forgotten.
    pub joined: u64,
    /// Times that Redis had forgotten this proxy while the connection stood.
    pub forgotten: u64,

    /// How it stands now.
    pub standing: Standing,
    /// Asks that wait now.
    pub waiting: usize,
    /// Places that this proxy holds now, of all hosts.
    pub held: u64,
    /// Proxies in the fleet, this one among them, as last seen.
    pub fleet: usize,
    /// Those of them that are dprl.
    pub foreign: usize,
}
