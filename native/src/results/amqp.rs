//! Results as messages to whoever waits for them (`rpc://`): a write's key is the reply queue, its value the message.
//!
//! One batch is on its way at a time, so that the states of a task arrive in their order. A queue that is gone
//! takes nothing and nobody misses it; the server confirms such a message like any other.

use mio::{Registry, Token};

use super::attempts::Attempts;
use super::{ResultStore, ResultWrite, StoreEvent};
use crate::broker::TokenRange;
use crate::clock::MonotonicNs;
use crate::config::amqp::AmqpResultConfig;
use crate::error::{Error, Result};
use crate::publish::amqp::{Courier, Parcel, Route};

/// The result store. See the module's text.
#[derive(Debug)]
pub struct AmqpResultStore {
    courier: Courier,
    token: Token,
    attempts: Attempts,
    /// Not handed to the courier yet, in order.
    waiting: Vec<Parcel>,
    /// With the courier.
    under_way: usize,
    /// After a failure nothing is sent before this.
    retry_ns: MonotonicNs,
    was_connected: bool,
}

impl AmqpResultStore {
    /// A store that connects with its first write.
    #[must_use]
    pub fn new(config: AmqpResultConfig) -> Self {
        let route = Route { addresses: config.addresses, declarations: Vec::new(), exchange: "", mandatory: false };
        Self {
            courier: Courier::new("results", route),
            token: Token(usize::MAX),
            attempts: Attempts::new(config.retry),
            waiting: Vec::new(),
            under_way: 0,
            retry_ns: 0,
            was_connected: false,
        }
    }

    fn on_outcome(
        &mut self,
        parcels: Vec<Parcel>,
        outcome: Result<()>,
        now_ns: MonotonicNs,
        events: &mut Vec<StoreEvent>,
    ) {
        self.under_way = 0;
        match outcome {
            Ok(()) => {
                if self.attempts.is_failing() || !self.was_connected {
                    events.push(StoreEvent::Connected);
                }
                self.was_connected = true;
                self.attempts.reset();
                events.extend(parcels.into_iter().map(|parcel| StoreEvent::Stored { token: parcel.tag }));
            }
            Err(error) if error.is_retryable() => self.on_failure(parcels, error, now_ns, events),
            Err(error) => fail(parcels, &error, events),
        }
    }

    /// What may have arrived is sent again: a result that comes twice is the same result.
    fn on_failure(
        &mut self,
        mut parcels: Vec<Parcel>,
        error: Error,
        now_ns: MonotonicNs,
        events: &mut Vec<StoreEvent>,
    ) {
        parcels.append(&mut self.waiting);
        match self.attempts.fail(!self.was_connected) {
            Some(retry_in_s) => {
                self.waiting = parcels;
                self.retry_ns = now_ns + (retry_in_s * 1e9) as MonotonicNs;
                events.push(StoreEvent::Disconnected { error, retry_in_s });
            }
            None => {
                fail(parcels, &error, events);
                events.push(StoreEvent::GaveUp { error });
            }
        }
    }
}

fn fail(parcels: Vec<Parcel>, error: &Error, events: &mut Vec<StoreEvent>) {
    events.extend(parcels.into_iter().map(|parcel| StoreEvent::Failed { token: parcel.tag, error: error.clone() }));
}

impl ResultStore for AmqpResultStore {
    fn start(&mut self, _registry: &Registry, tokens: TokenRange, _now_ns: MonotonicNs) -> Result<()> {
        self.token = tokens.at(0);
        Ok(())
    }

    fn put(&mut self, write: ResultWrite) {
        let routing_key = String::from_utf8_lossy(&write.key).into_owned();
        self.waiting.push(Parcel { tag: write.token, routing_key, message: write.value.into_vec() });
    }

    fn drive(
        &mut self,
        registry: &Registry,
        _ready: &[Token],
        now_ns: MonotonicNs,
        events: &mut Vec<StoreEvent>,
    ) -> Result<()> {
        for (parcels, outcome) in self.courier.outcomes() {
            self.on_outcome(parcels, outcome, now_ns, events);
        }
        if self.under_way == 0 && !self.waiting.is_empty() && now_ns >= self.retry_ns {
            self.under_way = self.waiting.len();
            self.courier.submit(registry, self.token, std::mem::take(&mut self.waiting))?;
        }
        Ok(())
    }

    fn deadline_ns(&self) -> Option<MonotonicNs> {
        (self.under_way == 0 && !self.waiting.is_empty()).then_some(self.retry_ns)
    }

    fn pending(&self) -> usize {
        self.waiting.len() + self.under_way
    }

    fn stop(&mut self, _registry: &Registry) {
        // The thread ends with the batch that it has; what waits was given up by the engine.
        self.waiting.clear();
    }
}
