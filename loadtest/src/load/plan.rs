//! What a load sends: requests written once, sent in turn.

use crate::client::Target;

/// One kind of request.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Method in capitals; not HEAD, whose answers the generator would take for longer ones.
    pub method: String,
    /// Path and query; `{channel}` becomes a channel id, another for each of the plan's channels.
    pub path: String,
    /// `Authorization`, empty for none.
    pub authorization: String,
    /// JSON body, empty for none.
    pub body: String,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/api/v10/users/@me".to_owned(),
            authorization: "Bot MzkyODI3MTY5NDk3Mjg0NjE5.load.test".to_owned(),
            body: String::new(),
        }
    }
}

/// Requests in the order in which they are sent; after the last comes the first.
#[derive(Clone, Debug)]
pub struct Plan {
    recipes: Vec<Recipe>,
}

impl Plan {
    /// One kind of request over so many channels.
    pub fn spread(recipe: &Recipe, channels: u64) -> Self {
        let path = |i: u64| {
            recipe
                .path
                .replace("{channel}", &(FIRST_CHANNEL + i * 1000).to_string())
        };
        let recipes = (0..channels.max(1)).map(|i| Recipe {
            path: path(i),
            ..recipe.clone()
        });
        Self {
            recipes: recipes.collect(),
        }
    }

    /// Several kinds of request in turn.
    pub fn mixed(recipes: Vec<Recipe>) -> Self {
        Self {
            recipes: if recipes.is_empty() {
                vec![Recipe::default()]
            } else {
                recipes
            },
        }
    }

    /// The bytes of the first request.
    pub(crate) fn first(&self, target: &Target) -> Vec<u8> {
        let first = self.recipes.first();
        first.map_or_else(Vec::new, |recipe| bytes(recipe, &target.host))
    }

    /// The bytes of every request.
    pub(crate) fn bytes(&self, target: &Target) -> Vec<Vec<u8>> {
        self.recipes
            .iter()
            .map(|r| bytes(r, &target.host))
            .collect()
    }
}

/// Ids of channels end in the digits of the first, which mark none as missing.
const FIRST_CHANNEL: u64 = 203_039_963_636_301_824;

fn bytes(recipe: &Recipe, host: &str) -> Vec<u8> {
    let Recipe {
        method,
        path,
        authorization,
        body,
    } = recipe;
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    text.push_str("User-Agent: DiscordBot (loadtest, 1)\r\nAccept: */*\r\n");
    if !authorization.is_empty() {
        text.push_str(&format!("Authorization: {authorization}\r\n"));
    }
    if !body.is_empty() {
        text.push_str("Content-Type: application/json\r\n");
    }
    if !body.is_empty() || !matches!(method.as_str(), "GET" | "HEAD" | "DELETE") {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_spread_over_channels_that_exist() {
        let recipe = Recipe {
            path: "/api/v10/channels/{channel}".into(),
            ..Recipe::default()
        };
        let plan = Plan::spread(&recipe, 500);
        let mut paths: Vec<_> = plan.recipes.iter().map(|r| r.path.as_str()).collect();
        assert!(paths.iter().all(|p| p.ends_with("824")));
        paths.dedup();
        assert_eq!(paths.len(), 500);
    }

    #[test]
    fn a_body_brings_its_length_and_type() {
        let recipe = Recipe {
            method: "POST".into(),
            body: "{}".into(),
            ..Recipe::default()
        };
        let text = String::from_utf8(bytes(&recipe, "h:1")).unwrap();
        assert!(text.starts_with("POST /api/v10/users/@me HTTP/1.1\r\nHost: h:1\r\n"));
        assert!(
            text.ends_with("application/json\r\nContent-Length: 2\r\n\r\n{}"),
            "{text}"
        );
    }
}
