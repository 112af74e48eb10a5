//! What Redis does in one step: the scripts, how they are called and what they answer.
//!
//! Redis runs a script as a whole, nothing comes between its steps. Each names keys that it makes up
//! itself (one for each worker of the fleet), which a Redis cluster does not allow. Needs Redis 5 or
//! newer, or Valkey.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::{Cmd, Value};

use super::book::{Op, Roster};
use super::keys;

/// Workers in the index, at most: a write asks for as many counters, which takes some tenths of a
/// millisecond; and Lua hands so many values to a call.
pub(super) const WORKERS_MAX: usize = 1_000;

/// Writes what is held, and takes as many of the wanted places as there are.
///
/// The number of the connection must be the newest that this worker has claimed: what an old
/// connection had under way may arrive after what was said on a new one. Places are given only by the
/// Redis that was joined, since in one that was emptied the others do not stand.
/// A counter of dprl's below zero, which a place given back after its life leaves behind, counts as
/// none.
pub(super) const WRITE: &str = r"
local counter, epoch, run, workers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local held, wanted = tonumber(ARGV[3]), tonumber(ARGV[4])
local cap, most = tonumber(ARGV[5]), tonumber(ARGV[6])
local life, of_host, me = ARGV[7], ARGV[8], ARGV[9]
local marks = redis.call('MGET', epoch, run)
if marks[1] ~= ARGV[1] or (wanted > 0 and marks[2] ~= ARGV[2]) then
    return {-1, 0}
end
local others, granted = 0, 0
if wanted > 0 then
    local names = {}
    for _, worker in ipairs(redis.call('ZRANGE', workers, 0, -1)) do
        if worker ~= me then
            names[#names + 1] = of_host .. worker
        end
    end
    if #names > 0 then
        for _, value in ipairs(redis.call('MGET', unpack(names))) do
            others = others + math.max(0, tonumber(value or 0) or 0)
        end
    end
    granted = math.max(0, math.min(wanted, cap - others - held, most - held))
end
local now_held = held + granted
if now_held > 0 then
    redis.call('SET', counter, string.format('%d', now_held), 'PX', life)
else
    redis.call('DEL', counter)
end
return {granted, others}
";

/// Claims the connection's number; enters this worker into the index if told to; tells the fleet.
///
/// Who stands in the index has told what it holds. So a worker is entered only if Redis knows that it
/// has claimed its number: in one that was emptied since, its counters are gone, too.
///
/// A start of Redis that nobody has noted yet is noted with its time. Workers that were not seen for
/// long leave the index, but not when this worker itself was not seen for as long, which is then more
/// likely a clock that was set.
pub(super) const HELLO: &str = r"
local workers, epoch, run, since = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local me, number, start, enter = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local settle, keep, lately = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claimed = tonumber(redis.call('GET', epoch) or 0)
if claimed > number then
    return {-1, 0, 0}
end
local known = 0
if claimed == number and redis.call('GET', run) == start then
    known = 1
end
redis.call('SET', epoch, ARGV[2], 'PX', keep)
if redis.call('GET', run) ~= start or redis.call('EXISTS', since) == 0 then
    redis.call('SET', run, start)
    redis.call('SET', since, string.format('%d', now))
end
local noted = tonumber(redis.call('GET', since))
if enter == '1' and known == 1 then
    local seen = redis.call('ZSCORE', workers, me)
    redis.call('ZADD', workers, string.format('%d', now), me)
    if seen and now - seen < keep then
        redis.call('ZREMRANGEBYSCORE', workers, '-inf', string.format('(%d', now - keep))
    end
    redis.call('ZREMRANGEBYRANK', workers, 0, -1 - tonumber(ARGV[8]))
end
local answer = {math.max(0, math.min(settle, noted + settle - now)), known, noted}
local fleet = redis.call('ZRANGEBYSCORE', workers, string.format('%d', now - lately), '+inf', 'WITHSCORES')
for _, part in ipairs(fleet) do
    answer[#answer + 1] = part
end
return answer
";

/// Enters workers that were found into the index.
pub(super) const FOUND: &str = r"
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
for _, worker in ipairs(ARGV) do
    redis.call('ZADD', KEYS[1], now, worker)
end
return 0
";

/// What a script is called with, the same in every call of one connection.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// This worker's name.
    pub(super) me: Box<str>,
    /// Its epoch's key.
    pub(super) epoch_key: String,
    /// The number of its connection.
    pub(super) epoch: u64,
    /// Which start of Redis the connection is to.
    pub(super) run: String,
}

/// For how long a worker and its number stay in Redis, and what of the fleet counts as present.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// How long a counter lives.
    pub(super) life: Duration,
    /// How long after Redis' start others may still be missing.
    pub(super) settle: Duration,
    /// How long after it was last seen a worker may come back with a counter.
    pub(super) keep: Duration,
    /// Since when a worker was seen that counts as present.
    pub(super) lately: Duration,
}

/// A call of the script with the digest `sha`.
fn call(sha: &str, keys: &[&str]) -> Cmd {
    let mut cmd = redis::cmd("EVALSHA");
    cmd.arg(sha).arg(keys.len()).arg(keys);
    cmd
}

pub(super) fn write(sha: &str, caller: &Caller, times: &Times, op: &Op) -> Cmd {
    let counter = keys::counter(&op.host, &caller.me);
    let mut cmd = call(
        sha,
        &[&counter, &caller.epoch_key, keys::RUN, keys::WORKERS],
    );
    cmd.arg(caller.epoch)
        .arg(&caller.run)
        .arg(op.held)
        .arg(op.wanted)
        .arg(op.cap)
        .arg(op.most)
        .arg(millis(times.life))
        .arg(keys::of_host(&op.host))
        .arg(&*caller.me);
    cmd
}

pub(super) fn hello(sha: &str, caller: &Caller, times: &Times, enter: bool) -> Cmd {
    let mut cmd = call(
        sha,
        &[keys::WORKERS, &caller.epoch_key, keys::RUN, keys::SINCE],
    );
    cmd.arg(&*caller.me)
        .arg(caller.epoch)
        .arg(&caller.run)
        .arg(u8::from(enter))
        .arg(millis(times.settle))
        .arg(millis(times.keep))
        .arg(millis(times.lately))
        .arg(WORKERS_MAX);
    cmd
}

pub(super) fn found(sha: &str, workers: &BTreeSet<String>) -> Cmd {
    let mut cmd = call(sha, &[keys::WORKERS]);
    cmd.arg(workers);
    cmd
}

/// Takes this worker's traces away: first its number, after which nothing that is still under way has
/// an effect, then its place in the index, then its counters.
pub(super) fn farewell(caller: &Caller, counters: &[String]) -> Vec<Cmd> {
    /// Keys in one command: Redis does nothing else meanwhile.
    const TOGETHER: usize = 512;
    let delete = |keys: &[String]| {
        let mut cmd = redis::cmd("DEL");
        cmd.arg(keys);
        cmd
    };
    let mut leave = redis::cmd("ZREM");
    leave.arg(keys::WORKERS).arg(&*caller.me);
    let mut cmds = vec![delete(std::slice::from_ref(&caller.epoch_key)), leave];
    cmds.extend(counters.chunks(TOGETHER).map(delete));
    cmds
}

/// One page of all counters, from `cursor`.
pub(super) fn scan(cursor: u64) -> Cmd {
    /// Keys that Redis looks at for one page: half a millisecond or so.
    const PAGE: usize = 2_048;
    let mut cmd = redis::cmd("SCAN");
    cmd.arg(cursor)
        .arg("MATCH")
        .arg(keys::ALL)
        .arg("COUNT")
        .arg(PAGE);
    cmd
}

/// Tries to become the one who looks for workers of dprl, for `interval`.
pub(super) fn claim_scan(me: &str, interval: Duration) -> Cmd {
    let mut cmd = redis::cmd("SET");
    cmd.arg(keys::SCAN)
        .arg(me)
        .arg("NX")
        .arg("PX")
        .arg(millis(interval));
    cmd
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// What [`WRITE`] answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Written {
    /// So many places more are counted; the others hold so many.
    Done {
        /// Places that were wanted and taken.
        granted: u32,
        /// What the others hold.
        others: u32,
    },
    /// Redis has forgotten this worker, or knows a newer connection of it.
    Unknown,
}

/// Redis answered something else than its scripts do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Nonsense;

pub(super) fn read_written(value: &Value) -> Result<Written, Nonsense> {
    let Value::Array(parts) = value else {
        return Err(Nonsense);
    };
    let [granted, others] = parts.as_slice() else {
        return Err(Nonsense);
    };
    match (integer(granted)?, integer(others)?) {
        (-1, _) => Ok(Written::Unknown),
        (granted, others) => Ok(Written::Done {
            granted: u32::try_from(granted).map_err(|_| Nonsense)?,
            others: u32::try_from(others).unwrap_or(u32::MAX),
        }),
    }
}

/// The fleet by what [`HELLO`] answered; `None` if there is a newer connection of this worker.
pub(super) fn read_hello(value: &Value) -> Result<Option<Roster>, Nonsense> {
    let Value::Array(parts) = value else {
        return Err(Nonsense);
    };
    let [settle, known, noted, fleet @ ..] = parts.as_slice() else {
        return Err(Nonsense);
    };
    let Ok(settle) = u64::try_from(integer(settle)?) else {
        return Ok(None);
    };
    let mut roster = Roster {
        settle: Duration::from_millis(settle),
        known: integer(known)? == 1,
        since: integer(noted)?,
        ..Roster::default()
    };
    for pair in fleet.chunks(2) {
        let [worker, seen] = pair else {
            return Err(Nonsense);
        };
        roster.workers.insert(text(worker)?.into(), seen_ms(seen)?);
    }
    Ok(Some(roster))
}

/// Where to go on scanning, 0 for nowhere, and the workers of dprl on this page.
pub(super) fn read_scan(value: &Value) -> Result<(u64, BTreeSet<String>), Nonsense> {
    let Value::Array(parts) = value else {
        return Err(Nonsense);
    };
    let [cursor, Value::Array(names)] = parts.as_slice() else {
        return Err(Nonsense);
    };
    let cursor = text(cursor)?.parse().map_err(|_| Nonsense)?;
    let workers = names.iter().filter_map(|name| match name {
        Value::BulkString(name) => keys::foreign_worker(name).map(str::to_owned),
        _ => None,
    });
    Ok((cursor, workers.collect()))
}

fn integer(value: &Value) -> Result<i64, Nonsense> {
    match value {
        Value::Int(number) => Ok(*number),
        _ => Err(Nonsense),
    }
}

fn text(value: &Value) -> Result<&str, Nonsense> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).map_err(|_| Nonsense),
        _ => Err(Nonsense),
    }
}

/// A score: Redis writes whole numbers of this size without a point.
fn seen_ms(value: &Value) -> Result<i64, Nonsense> {
    text(value)?.parse().map_err(|_| Nonsense)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn answers_are_read_and_nonsense_is_not() {
        let pair = |a, b| Value::Array(vec![Value::Int(a), Value::Int(b)]);
        let done = |granted, others| Ok(Written::Done { granted, others });
        assert_eq!(read_written(&pair(3, 22)), done(3, 22));
        assert_eq!(read_written(&pair(-1, 0)), Ok(Written::Unknown));
        assert_eq!(read_written(&pair(-2, 0)), Err(Nonsense));
        assert_eq!(read_written(&Value::Nil), Err(Nonsense));
        assert_eq!(read_written(&Value::Array(vec![])), Err(Nonsense));

        let mut hello = vec![Value::Int(250), Value::Int(1), Value::Int(1_000)];
        hello.extend([bulk("weir-1"), bulk("1000"), bulk("weir-2"), bulk("999")]);
        let roster = read_hello(&Value::Array(hello.clone())).unwrap().unwrap();
        assert_eq!(roster.settle, Duration::from_millis(250));
        assert!(roster.known);
        assert_eq!(roster.since, 1_000);
        let seen = [("weir-1".into(), 1_000), ("weir-2".into(), 999)];
        assert_eq!(roster.workers, seen.into());
        hello.pop();
        assert_eq!(read_hello(&Value::Array(hello)), Err(Nonsense));
        let newer = [Value::Int(-1), Value::Int(0), Value::Int(0)];
        assert_eq!(read_hello(&Value::Array(newer.into())), Ok(None));

        let names = [
            "proxy_rate_limiter:a:worker-1-1",
            "proxy_rate_limiter:a:weir-1",
        ];
        let page = [bulk("17"), Value::Array(names.map(bulk).into())];
        let page = read_scan(&Value::Array(page.into())).unwrap();
        assert_eq!(page, (17, BTreeSet::from(["worker-1-1".to_owned()])));
    }
}
