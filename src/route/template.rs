//! From a route as a person writes it to the keys that its requests get.
//!
//! A template is made into a path by putting an id where it has `!`, and that path is read as any
//! request's, so that what is replaced, collapsed or classed there is here as well.

use super::{Keys, RouteText, classify, table};

/// An id that stands for all: of the common length, and old enough for a message of every age to
/// be of it.
const ID: &str = "1103049420930568322";

impl Keys {
    /// The [`BucketKey::route`](super::BucketKey::route) of every request that `template` is the
    /// route of: one key, or one for each [`Class`](super::Class) that its requests can be of.
    ///
    /// `method` is the method's name; `template` a path without `/api`, with `!` for ids. A slash
    /// in front and words that a route's text can hold are the caller's to see to; what has none
    /// gets keys that few requests have.
    pub fn template_keys(&self, method: &str, template: &str) -> Vec<u64> {
        let mut target = String::from("/api/v10");
        for segment in template.split('/').filter(|segment| !segment.is_empty()) {
            target.push('/');
            target.push_str(if segment == "!" { ID } else { segment });
        }
        let mut text = RouteText::default();
        let mut keys: Vec<u64> = table::clocks_of_each_class(ID.as_bytes())
            .into_iter()
            .map(|unix_ms| {
                let route = classify(method.as_bytes(), target.as_bytes(), unix_ms, &mut text);
                self.route_key(&route, method.as_bytes())
            })
            .collect();
        keys.dedup();
        keys
    }
}
