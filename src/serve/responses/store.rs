//! Responses that were given, kept in memory: at most so many and so large, the oldest go first.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Responses kept at most.
pub(in crate::serve) const RESPONSES_MAX: usize = 1024;
/// Bytes of JSON kept at most.
pub(in crate::serve) const BYTES_MAX: usize = 64 << 20;

/// A response, and the conversation up to it.
#[derive(Debug)]
pub(in crate::serve) struct Stored {
    /// As it was given.
    pub(super) response: Value,
    /// Every item up to its last: what the next request goes on from.
    pub(super) context: Vec<Value>,
    /// Those that its own request brought.
    pub(super) input: Range<usize>,
}

/// The responses that are kept.
#[derive(Debug)]
pub(in crate::serve) struct Store {
    responses_max: usize,
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// With their bytes.
    kept: HashMap<String, (Arc<Stored>, usize)>,
    /// The oldest first.
    order: VecDeque<String>,
    bytes: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(RESPONSES_MAX, BYTES_MAX)
    }
}

impl Store {
    pub(in crate::serve) fn new(responses_max: usize, bytes_max: usize) -> Self {
        Self { responses_max, bytes_max, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a response under an id that is new.
    pub(super) fn insert(&self, id: String, stored: Stored) {
        let texts = stored.context.iter().chain([&stored.response]);
        let bytes = texts.map(|value| value.to_string().len()).sum();
        let mut inner = self.inner();
        inner.kept.insert(id.clone(), (Arc::new(stored), bytes));
        inner.order.push_back(id);
        inner.bytes += bytes;
        while inner.order.len() > self.responses_max || inner.bytes > self.bytes_max {
            let Some(oldest) = inner.order.front().cloned() else { return };
            inner.remove(&oldest);
        }
    }

    /// A response that is still kept.
    pub(super) fn get(&self, id: &str) -> Option<Arc<Stored>> {
        self.inner().kept.get(id).map(|(stored, _)| stored.clone())
    }

    /// Forgets a response.
    pub(super) fn remove(&self, id: &str) -> Option<Arc<Stored>> {
        self.inner().remove(id)
    }
}

impl Inner {
    fn remove(&mut self, id: &str) -> Option<Arc<Stored>> {
        let (stored, bytes) = self.kept.remove(id)?;
        self.bytes -= bytes;
        self.order.retain(|other| other != id);
        Some(stored)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(text: &str) -> Stored {
        Stored { response: json!(text), context: vec![json!(text)], input: 0..1 }
    }

    fn kept(store: &Store) -> Vec<String> {
        let inner = store.inner();
        assert_eq!(inner.kept.len(), inner.order.len());
        assert_eq!(inner.bytes, inner.kept.values().map(|(_, bytes)| bytes).sum::<usize>());
        inner.order.iter().cloned().collect()
    }

    #[test]
    fn the_oldest_go_first_by_count_and_by_bytes() {
        let store = Store::new(3, 40);
        (0..5).for_each(|i| store.insert(i.to_string(), stored("")));
        assert_eq!(kept(&store), ["2", "3", "4"]);
        // Two quoted texts of 10: 24 bytes, beside which 4 others have room.
        store.insert("large".into(), stored("0123456789"));
        assert_eq!(kept(&store), ["3", "4", "large"]);
        store.insert("larger".into(), stored("0123456789"));
        assert_eq!(kept(&store), ["larger"]);
        store.insert("too large".into(), stored(&"x".repeat(30)));
        assert!(kept(&store).is_empty());
    }

    #[test]
    fn what_is_removed_is_gone() {
        let store = Store::default();
        store.insert("a".into(), stored("a"));
        assert_eq!(store.get("a").expect("it is kept").response, "a");
        assert!(store.remove("a").is_some() && store.remove("a").is_none() && store.get("a").is_none());
        assert!(kept(&store).is_empty());
    }
}
