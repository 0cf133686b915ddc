//! Revoked task ids, with Celery's bounds: the newest 50,000 for three hours.
//!
//! The truth is Celery's own set in the main process; this one is what the engine asks before a start.

use std::collections::{HashSet, VecDeque};

use crate::clock::MonotonicNs;

/// `CELERY_WORKER_REVOKES_MAX`'s default.
const REVOKED_MAX: usize = 50_000;
/// `CELERY_WORKER_REVOKE_EXPIRES`'s default.
const REVOKED_LIFE_NS: u64 = 10_800_000_000_000;

/// The set.
#[derive(Debug)]
pub(super) struct RevokedIds {
    ids: HashSet<String>,
    order: VecDeque<(MonotonicNs, String)>,
    count_max: usize,
    life_ns: u64,
}

impl Default for RevokedIds {
    fn default() -> Self {
        let (ids, order) = (HashSet::new(), VecDeque::new());
        Self { ids, order, count_max: REVOKED_MAX, life_ns: REVOKED_LIFE_NS }
    }
}

impl RevokedIds {
    /// Other bounds than Celery's defaults; they count from the next addition on.
    pub(super) fn set_bounds(&mut self, count_max: usize, life_ns: u64) {
        (self.count_max, self.life_ns) = (count_max, life_ns);
    }

    /// Adds ids and forgets what is too old or too much.
    pub(super) fn add(&mut self, ids: Vec<String>, now_ns: MonotonicNs) {
        for id in ids {
            if self.ids.insert(id.clone()) {
                self.order.push_back((now_ns, id));
            }
        }
        while let Some((at_ns, _)) = self.order.front() {
            if self.order.len() <= self.count_max && now_ns.saturating_sub(*at_ns) < self.life_ns {
                return;
            }
            if let Some((_, id)) = self.order.pop_front() {
                self.ids.remove(&id);
            }
        }
    }

    /// Whether an id is revoked.
    pub(super) fn contains(&self, id: &str) -> bool {
        !self.ids.is_empty() && self.ids.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let mut revoked = RevokedIds::default();
        revoked.add((0..REVOKED_MAX + 2).map(|number| number.to_string()).collect(), 1);
        assert!(!revoked.contains("0") && !revoked.contains("1") && revoked.contains("2"));
    }

    #[test]
    fn ids_are_forgotten_after_their_time() {
        let mut revoked = RevokedIds::default();
        revoked.add(vec!["a".into()], 1);
        revoked.add(vec!["b".into()], REVOKED_LIFE_NS + 1);
        assert!(!revoked.contains("a") && revoked.contains("b"));
    }
}
