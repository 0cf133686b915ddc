//! What remote control changes while the node runs: limits, queues, the pool's size, events, stamps.

use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::config::amqp::{AmqpQueue, Declaration};
use crate::engine::children::Place;
use crate::engine::events::EventSettings;
use crate::engine::node::Node;
use crate::error::{Error, ErrorKind, Result};

/// A change that an operator asks for.
#[derive(Debug)]
pub enum Operation {
    /// A task's starts per second; `None` lifts the limit.
    RateLimit {
        /// Index of the task.
        task: u16,
        /// The new limit.
        per_s: Option<f64>,
    },
    /// A task's time limits, for runs that start from now on.
    TimeLimits {
        /// Index of the task.
        task: u16,
        /// Soft limit.
        soft_s: Option<f64>,
        /// Hard limit.
        hard_s: Option<f64>,
    },
    /// Begins or ends consuming from a queue; an unknown one is added.
    Queue {
        /// Its name.
        name: String,
        /// Whether to consume.
        active: bool,
        /// Gets whether that worked.
        reply: Sender<Result<()>>,
    },
    /// Says what an unknown queue is, and begins to consume from it.
    DeclareQueue {
        /// The queue.
        queue: AmqpQueue,
        /// What is declared for it on every connection.
        declarations: Vec<Declaration>,
        /// Gets whether that worked.
        reply: Sender<Result<()>>,
    },
    /// More children.
    Grow {
        /// How many.
        count: u32,
        /// Gets the pool's new size.
        reply: Sender<u32>,
    },
    /// Fewer children; only those that run nothing go.
    Shrink {
        /// How many.
        count: u32,
        /// Gets how many go.
        reply: Sender<u32>,
    },
    /// Every child is replaced once its task is done.
    Restart,
    /// Task events on or off.
    Events(EventSettings),
    /// A task event that Python made.
    Event {
        /// Its type.
        kind: String,
        /// The task's id.
        task_id: String,
        /// Its other members, a JSON object.
        members: Vec<u8>,
    },
    /// Stamps were revoked: from now on Python looks at every stamped message before it starts.
    WatchStamps,
    /// How many revoked ids are remembered, and for how long.
    RevokeBounds {
        /// How many.
        count: usize,
        /// How long.
        life: Duration,
    },
}

impl Node {
    pub(super) fn operate(&mut self, operation: Operation) {
        match operation {
            Operation::RateLimit { task, per_s } => self.set_rate_limit(task, per_s),
            Operation::TimeLimits { task, soft_s, hard_s } => {
                if let Some(task) = self.config.tasks.get_mut(usize::from(task)) {
                    (task.soft_time_limit_s, task.time_limit_s) = (soft_s, hard_s);
                }
            }
            // The askers may have gone away meanwhile; then nobody misses the answer.
            Operation::Queue { name, active, reply } => drop(reply.send(self.set_queue(&name, active))),
            Operation::DeclareQueue { queue, declarations, reply } => {
                drop(reply.send(self.declare_queue(queue, declarations)));
            }
            Operation::Grow { count, reply } => drop(reply.send(self.grow(count))),
            Operation::Shrink { count, reply } => drop(reply.send(self.shrink(count))),
            Operation::Restart => self.restart_children(),
            Operation::Events(settings) => self.set_events(settings),
            Operation::Event { kind, task_id, members } => self.event_of_python(&kind, &task_id, &members),
            Operation::WatchStamps => {
                self.watches_stamps = true;
                // What is handed over but not started comes past the check again.
                (0..self.places.len()).for_each(|index| self.take_back_all(index));
            }
            Operation::RevokeBounds { count, life } => self.revoked.set_bounds(count, life.as_nanos() as u64),
        }
    }

    fn set_rate_limit(&mut self, task: u16, per_s: Option<f64>) {
        if usize::from(task) >= self.config.tasks.len() || self.rates.limit(task) == per_s {
            return;
        }
        match self.rates.set(task, per_s) {
            // Freed jobs keep their order among themselves.
            Some(freed) => self.ready.extend(freed),
            None => {
                // What was on its way to a child would start before the limit is felt.
                (0..self.places.len()).for_each(|index| self.take_back_all(index));
                let ready = std::mem::take(&mut self.ready);
                for handle in ready {
                    let is_limited = self.jobs.get(handle).is_some_and(|job| job.task == Some(task));
                    if !(is_limited && self.rates.hold(task, handle)) {
                        self.ready.push_back(handle);
                    }
                }
            }
        }
    }

    fn find_queue(&self, name: &str) -> Option<u16> {
        let known = (0..u16::MAX).take_while(|queue| !self.queue_name(*queue).is_empty());
        known.into_iter().find(|queue| self.queue_name(*queue) == name)
    }

    fn declare_queue(&mut self, queue: AmqpQueue, declarations: Vec<Declaration>) -> Result<()> {
        let name = queue.name.clone();
        if !name.is_empty() && self.find_queue(&name).is_none() {
            let index = self.broker.add_declared_queue(queue, declarations)?;
            self.added_queues.insert(index, name.clone());
        }
        self.set_queue(&name, true)
    }

    fn set_queue(&mut self, name: &str, active: bool) -> Result<()> {
        let queue = match self.find_queue(name) {
            Some(queue) => queue,
            None if !active => return Ok(()),
            None if name.is_empty() => return Err(Error::new(ErrorKind::Config, "a queue needs a name")),
            None => {
                let queue = self.broker.add_queue(name)?;
                self.added_queues.insert(queue, name.to_owned());
                queue
            }
        };
        self.broker.set_queue_active(queue, active);
        Ok(())
    }

    /// Children that are wanted.
    pub(super) fn pool_size(&self) -> u32 {
        self.places.iter().filter(|place| !place.closing).count() as u32
    }

    fn grow(&mut self, count: u32) -> u32 {
        let now_ns = self.clock.monotonic_ns();
        let mut missing = count;
        // Places that were given up and are empty come first, so that the children's numbers stay small.
        for place in self.places.iter_mut().filter(|place| place.closing && place.child.is_none()) {
            if missing == 0 {
                break;
            }
            (place.closing, place.respawn_at_ns) = (false, Some(now_ns));
            missing -= 1;
        }
        let added = (0..missing).map(|_| Place::wanted(now_ns));
        self.places.extend(added);
        let size = self.pool_size();
        self.ledger.set_concurrency(size);
        size
    }

    fn shrink(&mut self, count: u32) -> u32 {
        let mut gone = 0;
        for index in (0..self.places.len()).rev() {
            if gone == count || self.pool_size() <= 1 {
                break;
            }
            let place = &self.places[index];
            // What waits in its link can run elsewhere; what runs keeps its child.
            let idle = place.child.as_ref().is_none_or(|child| child.link.outstanding() == child.link.unstarted());
            if place.closing || !idle {
                continue;
            }
            self.take_back_all(index);
            let place = &mut self.places[index];
            (place.closing, place.respawn_at_ns) = (true, None);
            if let Some(child) = &mut place.child {
                child.retiring = true;
                // A closed socket means that it is dead already.
                let _ = child.link.shut_down();
            }
            gone += 1;
        }
        self.ledger.set_concurrency(self.pool_size());
        gone
    }

    fn restart_children(&mut self) {
        for index in 0..self.places.len() {
            self.take_back_all(index);
            if let Some(child) = &mut self.places[index].child {
                child.retiring = true;
                // A closed socket means that it is dead already.
                let _ = child.link.shut_down();
            }
        }
    }
}
