//! Many nodes, one set of limits.
//!
//! All nodes take all requests. Each identity (a bot, a bearer, a webhook) belongs to one of them, so
//! that its limits need no agreement; the others hand its requests on. Nodes come and go: then some
//! identities change hands, and what their node knew of them goes along.
//!
//! - [`member`]: who is there (pure);
//! - [`owner`]: whose an identity is (pure);
//! - [`wire`]: what nodes send each other (pure).

pub mod member;
pub mod owner;
pub mod wire;
