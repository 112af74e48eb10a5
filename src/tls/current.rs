//! What new connections use, and what can be exchanged under way.

use std::sync::{Arc, PoisonError, RwLock};

/// A configuration that may be read again; locked for a moment for each connection that begins.
#[derive(Debug)]
pub struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    /// This one, until there is another.
    pub fn new(config: Arc<T>) -> Self {
        Self(RwLock::new(config))
    }

    /// What a connection that begins now uses.
    pub fn now(&self) -> Arc<T> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// From now on it is this.
    pub fn exchange(&self, config: Arc<T>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}
