//! Global limits of single bots: `BOT_RATELIMIT_OVERRIDES` at run time.

use super::super::answer::Answer;
use super::super::pages::Asked;
use super::{changed, json, number, word};
use crate::config::bounds::{GLOBAL_LIMIT_MAX, OVERRIDES_MAX};

/// Where they are.
pub(in crate::admin) const PATH: &str = "/admin/overrides";

/// What single bots' are below.
pub(in crate::admin) const BOTS: &str = "/admin/overrides/";

/// Why nothing was done.
type Failed = (u16, &'static str);

const NO_BOT: Failed = (400, "a bot is named by its user id");
const NONE: Failed = (404, "this bot has no limit that was set");

/// `GET /admin/overrides`
pub(in crate::admin) fn read_all(asked: &Asked<'_>) -> Answer {
    let limits = asked.process.overrides.get();
    let limits: serde_json::Map<_, _> = limits
        .iter()
        .map(|(bot, limit)| (bot.to_string(), (*limit).into()))
        .collect();
    json(&serde_json::json!({ "overrides": limits, "of": of(asked) }))
}

/// `GET /admin/overrides/<bot>`
pub(in crate::admin) fn read(asked: &Asked<'_>) -> Answer {
    answer(asked, |bot| {
        let limit = asked.process.overrides.get().get(&bot).copied();
        limit.ok_or(NONE).map(Some)
    })
}

/// `PUT /admin/overrides/<bot>`
pub(in crate::admin) fn set(asked: &Asked<'_>) -> Answer {
    answer(asked, |bot| {
        let limit = word(asked.body).and_then(|word| number(&word));
        let limit = limit.and_then(|limit| u32::try_from(limit).ok());
        let limit = limit.filter(|limit| (1..=GLOBAL_LIMIT_MAX).contains(limit));
        let limit = limit.ok_or((400, "the body is no number from 1 to 50000"))?;
        let was = asked.process.set_override(bot, Some(limit));
        let was = was.map_err(|_| (409, "too many bots have a limit that was set"))?;
        changed(
            asked,
            &format!("global limit of {bot}"),
            &shown(was),
            &limit,
        );
        Ok(Some(limit))
    })
}

/// `DELETE /admin/overrides/<bot>`
pub(in crate::admin) fn remove(asked: &Asked<'_>) -> Answer {
    answer(asked, |bot| {
        let was = asked.process.set_override(bot, None);
        let was = was.ok().flatten().ok_or(NONE)?;
        changed(asked, &format!("global limit of {bot}"), &was, &shown(None));
        Ok(None)
    })
}

const _: () = assert!(GLOBAL_LIMIT_MAX == 50_000 && OVERRIDES_MAX > 0);

fn shown(limit: Option<u32>) -> String {
    limit.map_or_else(|| "found out".to_owned(), |limit| limit.to_string())
}

/// Whose limits these are.
fn of(asked: &Asked<'_>) -> &'static str {
    match &asked.process.cluster {
        None => "this weir",
        Some(_) => "this node of the cluster",
    }
}

/// Does something to the bot that the path names, and answers with what holds then.
fn answer(asked: &Asked<'_>, what: impl FnOnce(u64) -> Result<Option<u32>, Failed>) -> Answer {
    let bot = asked.behind(BOTS).and_then(number).filter(|&bot| bot != 0);
    let done = bot.ok_or(NO_BOT).and_then(|bot| Ok((bot, what(bot)?)));
    match done {
        Ok((bot, limit)) => json(&serde_json::json!({
            "bot": bot.to_string(),
            "limit": limit,
            "of": of(asked),
        })),
        Err((status, message)) => Answer::error(status, message),
    }
}
