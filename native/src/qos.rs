//! The prefetch ledger: integers only.
//!
//! Invariants, for `held` = messages taken from the broker and not yet acknowledged that are neither
//! scheduled nor given up, and `running` of them already started:
//!
//! * `running <= held`
//! * `demand = target - held`, never below zero; under strict prefetch the free slots
//! * `target >= floor`; above the floor only as far as the pool will start within the window
//!
//! Celery's count (`concurrency x worker_prefetch_multiplier`) is the floor. With a multiplier of one
//! the user asked for exactly that, so the reserve never grows; zero lifts the count. After a lost connection the
//! floor is lower by one multiplier for each running task (`worker_enable_prefetch_count_reduction`) and rises again
//! by one with each message that is done with.

use crate::config::PrefetchConfig;

/// Most messages reserved whatever the measured speed.
const RESERVE_MAX: u32 = 8192;
/// Weight of the newest run time in the moving average, as a divisor.
const AVERAGE_DIVISOR: f64 = 32.0;

/// What the pool is doing, as far as the reserve depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolLoad {
    /// Children that run something.
    pub busy: u32,
    /// Of these, how many have run the same task for longer than the window.
    pub stuck: u32,
    /// Some messages wait for a rate limit, so the reserve must not grow above the floor.
    pub limited: bool,
}

/// The ledger.
#[derive(Debug, Clone)]
pub struct PrefetchLedger {
    config: PrefetchConfig,
    concurrency: u32,
    held: u32,
    held_bytes: u64,
    running: u32,
    /// What the floor lacks since a connection was lost.
    withheld: u32,
    average_run_s: Option<f64>,
}

impl PrefetchLedger {
    /// A ledger for a pool of `concurrency` children.
    #[must_use]
    pub fn new(config: PrefetchConfig, concurrency: u32) -> Self {
        Self { config, concurrency, held: 0, held_bytes: 0, running: 0, withheld: 0, average_run_s: None }
    }

    /// A message came in.
    pub fn on_received(&mut self, size_bytes: usize) {
        self.held += 1;
        self.held_bytes += size_bytes as u64;
    }

    /// A message left: settled, or put aside until its time.
    pub fn on_released(&mut self, size_bytes: usize) {
        debug_assert!(self.held > 0, "released more than was received");
        self.held = self.held.saturating_sub(1);
        self.held_bytes = self.held_bytes.saturating_sub(size_bytes as u64);
    }

    /// A held message that was not acknowledged at its start began to run.
    pub fn on_late_started(&mut self) {
        self.running += 1;
    }

    /// Such a message finished.
    pub fn on_late_finished(&mut self) {
        debug_assert!(self.running > 0, "finished more than was started");
        self.running = self.running.saturating_sub(1);
    }

    /// The connection is back while `active` tasks run: lowers the floor. Returns the lowered one if it is lower.
    pub fn on_reconnected(&mut self, active: u32) -> Option<u32> {
        self.withheld = 0;
        let multiplier = self.config.multiplier;
        let floor = self.floor().filter(|_| self.config.reduces_after_loss && !self.config.strict)?;
        let lowered = floor.saturating_sub(active.saturating_mul(multiplier)).max(multiplier);
        self.withheld = floor.saturating_sub(lowered);
        (self.withheld > 0).then_some(lowered)
    }

    /// A message is done with. Returns the floor if it is whole again by that.
    pub fn on_settled(&mut self) -> Option<u32> {
        if self.withheld == 0 {
            return None;
        }
        self.withheld = self.withheld.saturating_sub(self.config.multiplier);
        self.floor().filter(|_| self.withheld == 0)
    }

    /// A task took this long.
    pub fn on_run_time(&mut self, run_s: f64) {
        self.average_run_s = Some(match self.average_run_s {
            None => run_s,
            Some(average) => average + (run_s - average) / AVERAGE_DIVISOR,
        });
    }

    /// The pool was resized.
    pub fn set_concurrency(&mut self, concurrency: u32) {
        self.concurrency = concurrency;
    }

    /// Celery's prefetch count; `None` when the user lifted it.
    #[must_use]
    pub fn floor(&self) -> Option<u32> {
        if self.config.strict {
            return Some(self.concurrency);
        }
        match self.config.multiplier {
            0 => None,
            multiplier => Some(self.concurrency.saturating_mul(multiplier)),
        }
    }

    /// How many messages may be held now.
    #[must_use]
    pub fn target(&self, load: PoolLoad) -> u32 {
        let Some(floor) = self.floor() else { return RESERVE_MAX };
        if self.withheld > 0 {
            return floor.saturating_sub(self.withheld);
        }
        if self.config.strict || self.config.multiplier == 1 || load.limited {
            return floor;
        }
        // A slot whose task has run for longer than the window starts nothing within it, whatever the
        // average of those that finished says.
        let free = self.concurrency.saturating_sub(load.stuck);
        let startable = match self.average_run_s {
            None => 0.0,
            Some(average) => f64::from(free) * self.config.window_s / average.max(1e-6),
        };
        let grown = startable.min(f64::from(RESERVE_MAX)) as u32;
        floor.max(grown)
    }

    /// How many more messages to ask for.
    #[must_use]
    pub fn demand(&self, load: PoolLoad) -> u32 {
        if self.held_bytes >= self.config.max_reserved_bytes && self.held > self.running {
            return 0;
        }
        if self.config.strict {
            // Only what can start at once: a slot is free when nothing runs in it, acknowledged or not.
            return self.concurrency.saturating_sub(load.busy + self.unstarted());
        }
        self.target(load).saturating_sub(self.held)
    }

    /// Messages held that have not started.
    #[must_use]
    pub fn unstarted(&self) -> u32 {
        self.held.saturating_sub(self.running)
    }

    /// How many unstarted messages are held beyond the floor.
    #[must_use]
    pub fn excess(&self) -> u32 {
        match self.floor() {
            None => 0,
            Some(_) if self.config.window_s == 0.0 => 0,
            Some(floor) => self.unstarted().saturating_sub(floor),
        }
    }

    /// Messages held.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(multiplier: u32, strict: bool) -> PrefetchLedger {
        let config =
            PrefetchConfig { multiplier, strict, window_s: 0.02, reduces_after_loss: true, max_reserved_bytes: 1000 };
        PrefetchLedger::new(config, 2)
    }

    #[test]
    fn the_floor_is_celerys_count() {
        assert_eq!(ledger(4, false).demand(PoolLoad::default()), 8);
        assert_eq!(ledger(1, false).demand(PoolLoad::default()), 2);
        assert_eq!(ledger(4, true).demand(PoolLoad::default()), 2);
        assert_eq!(ledger(0, false).demand(PoolLoad::default()), RESERVE_MAX);
    }

    #[test]
    fn short_tasks_raise_the_reserve_and_long_ones_lower_it() {
        let mut ledger = ledger(4, false);
        ledger.on_run_time(0.000_1);
        assert_eq!(ledger.target(PoolLoad::default()), 400);
        for _ in 0..1000 {
            ledger.on_run_time(5.0);
        }
        assert_eq!(ledger.target(PoolLoad::default()), 8);
    }

    #[test]
    fn without_a_window_the_reserve_is_celerys_count() {
        let config = PrefetchConfig { window_s: 0.0, ..ledger(4, false).config };
        let mut ledger = PrefetchLedger::new(config, 2);
        ledger.on_run_time(0.000_1);
        assert_eq!(ledger.target(PoolLoad::default()), 8);
        (0..12).for_each(|_| ledger.on_received(1));
        assert_eq!(ledger.excess(), 0);
    }

    #[test]
    fn slots_with_a_long_task_do_not_count() {
        let mut ledger = ledger(4, false);
        ledger.on_run_time(0.000_1);
        let load = |stuck| PoolLoad { busy: 2, stuck, limited: false };
        assert_eq!(ledger.target(load(1)), 200);
        assert_eq!(ledger.target(load(2)), 8);
    }

    #[test]
    fn a_multiplier_of_one_never_grows() {
        let mut ledger = ledger(1, false);
        ledger.on_run_time(0.000_01);
        assert_eq!(ledger.target(PoolLoad::default()), 2);
    }

    #[test]
    fn after_a_loss_the_floor_is_lower_and_rises_with_each_message_that_is_done_with() {
        let mut ledger = ledger(4, false);
        ledger.on_run_time(0.000_1);
        assert_eq!(ledger.on_reconnected(0), None);
        assert_eq!(ledger.on_reconnected(5), Some(4));
        assert_eq!(ledger.target(PoolLoad::default()), 4);
        assert_eq!(ledger.on_settled(), Some(8));
        assert_eq!(ledger.target(PoolLoad::default()), 400);
        assert_eq!(ledger.on_settled(), None);
    }

    #[test]
    fn after_a_loss_the_floor_stays_where_it_may_not_be_lowered() {
        assert_eq!(ledger(4, true).on_reconnected(2), None);
        assert_eq!(ledger(0, false).on_reconnected(2), None);
        let mut ledger = ledger(4, false);
        ledger.config.reduces_after_loss = false;
        assert_eq!(ledger.on_reconnected(2), None);
    }

    #[test]
    fn bytes_bound_the_reserve() {
        let mut ledger = ledger(4, false);
        ledger.on_received(2000);
        assert_eq!(ledger.demand(PoolLoad::default()), 0);
        ledger.on_released(2000);
        assert_eq!(ledger.demand(PoolLoad::default()), 8);
    }

    #[test]
    fn excess_counts_only_what_has_not_started() {
        let mut ledger = ledger(4, false);
        for _ in 0..12 {
            ledger.on_received(1);
        }
        assert_eq!(ledger.excess(), 4);
        ledger.on_late_started();
        ledger.on_late_started();
        assert_eq!(ledger.excess(), 2);
    }
}
