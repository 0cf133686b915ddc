//! Python's requests, and the tidying that nobody asks for.

use crate::broker::Settlement;
use crate::engine::command::{Command, JobsIn};
use crate::engine::node::Node;
use crate::engine::notice::{Content, Notice, NoticeKind, Reason};

/// What is reserved above the floor and has not started within this many windows goes back.
const HAND_BACK_WINDOWS: f64 = 5.0;

impl Node {
    pub(super) fn run_commands(&mut self) {
        for command in self.shared.take_commands() {
            match command {
                Command::Resolve(handle, verdict) => self.resolve(handle, verdict),
                Command::Replace(handle, content) => self.replace(handle, &content),
                Command::Call(content) => self.call(&content),
                Command::StopConsuming => self.stop_consuming(),
                Command::Stop(deadline_s, reply) => self.stop(deadline_s, reply),
                Command::Revoke(ids) => self.revoke(ids),
                Command::Operate(operation) => self.operate(*operation),
                // The asker may have gone away meanwhile; then nobody misses the answer.
                Command::Terminate(ids, number, reply) => drop(reply.send(self.terminate(&ids, number))),
                Command::Jobs(which, reply) => drop(reply.send(self.snapshot(which))),
                Command::Counters(reply) => drop(reply.send(self.all_counters())),
                Command::Children(reply) => drop(reply.send(self.children())),
            }
        }
    }

    /// Held tasks with these ids are shown to Python now, others when they come or become due.
    fn revoke(&mut self, ids: Vec<String>) {
        self.revoked.add(ids, self.clock.monotonic_ns());
        for index in 0..self.places.len() {
            let held = self.places[index].child.as_ref().is_some_and(|child| {
                child.link.handed().any(|handed| {
                    self.jobs.get(handed.job).is_some_and(|job| job.started_ns == 0 && self.revoked.contains(job.id()))
                })
            });
            if held {
                self.take_back_all(index);
            }
        }
        let limited =
            self.rates.remove_if(|handle| self.jobs.get(handle).is_some_and(|job| self.revoked.contains(job.id())));
        for handle in limited {
            self.show(handle, Reason::Revoked);
        }
        let ready: Vec<_> = self.ready.iter().copied().collect();
        for handle in ready {
            if self.jobs.get(handle).is_some_and(|job| self.revoked.contains(job.id())) {
                self.ready.retain(|held| *held != handle);
                self.show(handle, Reason::Revoked);
            }
        }
    }

    fn children(&self) -> Vec<(u32, i32, u64)> {
        let child = |(index, place): (usize, &crate::engine::children::Place)| {
            place
                .child
                .as_ref()
                .filter(|child| child.pid != 0)
                .map(|child| (index as u32, child.pid, child.started_tasks))
        };
        self.places.iter().enumerate().filter_map(child).collect()
    }

    /// The node's counters, and `task:<name>` for every task that was started.
    pub(super) fn all_counters(&self) -> Vec<(String, u64)> {
        let broker = self.broker.counters();
        let mut counters = self.counters.named();
        counters.extend([
            ("broker_delivered", broker.delivered),
            ("broker_settled", broker.settled),
            ("broker_requeued", broker.requeued),
            ("leases_lost", broker.leases_lost),
            ("reclaimed", broker.reclaimed),
            ("reconnects", broker.reconnects),
            ("round_trips", broker.round_trips),
            ("held", u64::from(self.ledger.held())),
            ("prefetch_target", u64::from(self.ledger.target(self.pool_load()))),
            ("ready", self.ready.len() as u64),
            ("eta_held", self.eta.len() as u64),
            ("active", self.jobs.iter().filter(|(_, job)| job.is_running()).count() as u64),
            ("pending", self.jobs.iter().filter(|(_, job)| job.end.is_none() && !job.awaits_verdict).count() as u64),
            ("pool_size", u64::from(self.pool_size())),
        ]);
        let per_task = self.config.tasks.iter().zip(&self.started_by_task).filter(|(_, started)| **started > 0);
        let per_task = per_task.map(|(task, started)| (format!("task:{}", task.name), *started));
        counters.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(per_task).collect()
    }

    fn snapshot(&self, which: JobsIn) -> Vec<Notice> {
        let now_ns = self.clock.monotonic_ns();
        let now_s = self.clock.wall_s();
        if which == JobsIn::Scheduled {
            let scheduled = self.eta.iter().filter_map(|(due_s, tag)| {
                let envelope = self.scheduled.get(&tag)?;
                let content = Content::from(&**envelope);
                Some(Notice { content, seconds: due_s, ..Notice::new(NoticeKind::Delivery) })
            });
            return scheduled.collect();
        }
        let active = which == JobsIn::Active;
        let wanted = self.jobs.iter().filter(|(_, job)| {
            if active { job.is_running() } else { job.started_ns == 0 && !job.awaits_verdict && job.end.is_none() }
        });
        let notices = wanted.map(|(handle, job)| {
            let mut notice = Self::delivery_notice(job, handle, Reason::None);
            notice.queue = self.queue_name(job.queue).to_owned();
            if let Some(place) = job.place {
                notice.index = place.child;
                notice.pid = self.places[place.child as usize].child.as_ref().map_or(0, |child| child.pid);
            }
            if active {
                notice.seconds = now_s - now_ns.saturating_sub(job.started_ns) as f64 / 1e9;
            }
            notice
        });
        notices.collect()
    }

    /// Hands back what was reserved above the floor and does not start soon enough.
    pub(super) fn tidy(&mut self) {
        let now_ns = self.clock.monotonic_ns();
        if now_ns < self.next_tidy_ns || !self.consuming {
            return;
        }
        let patience_ns = (self.config.prefetch.window_s * HAND_BACK_WINDOWS * 1e9) as u64;
        self.next_tidy_ns = now_ns + patience_ns / 2;
        let mut excess = self.ledger.excess() as usize;
        if excess == 0 {
            return;
        }
        for index in 0..self.places.len() {
            let stuck = self.places[index]
                .child
                .as_ref()
                .is_some_and(|child| child.link.unstarted() > 0 && self.runs_longer_than(child, patience_ns, now_ns));
            if stuck {
                self.take_back_all(index);
            }
        }
        while excess > 0 && self.rates.holds_long(self.config.prefetch.window_s) {
            let Some(handle) = self.rates.pop_youngest() else { break };
            self.settle(handle, Some(Settlement::Release));
            self.jobs.remove(handle);
            self.counters.handed_back += 1;
            excess -= 1;
        }
        while excess > 0 {
            let Some(&handle) = self.ready.back() else { return };
            let waited_ns = self.jobs.get(handle).map_or(0, |job| now_ns.saturating_sub(job.received_ns));
            if waited_ns < patience_ns {
                return;
            }
            self.ready.pop_back();
            self.settle(handle, Some(Settlement::Release));
            self.jobs.remove(handle);
            self.counters.handed_back += 1;
            excess -= 1;
        }
    }
}
