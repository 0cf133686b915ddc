//! Drives one broker the way the engine does.

use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use pyworker_native::broker::{Broker, BrokerEvent, DeliveryTag, Incoming, Settlement, TokenRange};
use pyworker_native::clock::monotonic_ns;
use pyworker_native::error::Error;

const TOKENS: TokenRange = TokenRange { first: 100, count: 8 };
const PATIENCE: Duration = Duration::from_secs(20);

/// A broker, its poller, and everything it said.
#[derive(Debug)]
pub struct Driver {
    pub broker: Box<dyn Broker>,
    poll: Poll,
    pub delivered: Vec<Incoming>,
    pub lost: Vec<DeliveryTag>,
    pub returned: Vec<DeliveryTag>,
    pub connects: usize,
    pub renewals: usize,
    pub disconnects: Vec<(Error, Option<f64>)>,
    pub complaints: Vec<String>,
}

impl Driver {
    pub fn start(mut broker: Box<dyn Broker>) -> Self {
        let poll = Poll::new().expect("a poller");
        broker.start(poll.registry(), TOKENS, monotonic_ns()).expect("the broker starts");
        Self {
            broker,
            poll,
            delivered: Vec::new(),
            lost: Vec::new(),
            returned: Vec::new(),
            connects: 0,
            renewals: 0,
            disconnects: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// Starts a broker and waits until it consumes.
    pub fn connected(broker: Box<dyn Broker>) -> Self {
        let mut driver = Self::start(broker);
        driver.until("connected", |driver| driver.connects > 0);
        driver
    }

    /// One turn: wait for readiness or a deadline (at most `most`), drive, sort the events.
    pub fn turn(&mut self, most: Duration) {
        let now_ns = monotonic_ns();
        let wait = match self.broker.deadline_ns() {
            Some(at_ns) => Duration::from_nanos(at_ns.saturating_sub(now_ns)).min(most),
            None => most,
        };
        let mut events = Events::with_capacity(16);
        self.poll.poll(&mut events, Some(wait)).expect("the poller works");
        let ready: Vec<Token> = events.iter().map(|event| event.token()).collect();
        let mut said = Vec::new();
        self.broker.drive(self.poll.registry(), &ready, monotonic_ns(), &mut said).expect("driving goes on");
        for event in said {
            match event {
                BrokerEvent::Connected => self.connects += 1,
                BrokerEvent::Disconnected { error, retry_in_s } => self.disconnects.push((error, retry_in_s)),
                BrokerEvent::Delivered(batch) => self.delivered.extend(batch),
                BrokerEvent::LeasesRenewed { .. } => self.renewals += 1,
                BrokerEvent::LeaseLost(tags) => self.lost.extend(tags),
                BrokerEvent::Returned(tags) => self.returned.extend(tags),
                BrokerEvent::Degraded { text } => self.complaints.push(text),
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}\n{self:#?}");
            self.turn(Duration::from_millis(20));
        }
    }

    /// Drives on for a while; what must not happen has its chance.
    pub fn linger(&mut self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            self.turn(Duration::from_millis(5));
        }
    }

    /// Asks for messages and waits until that many were delivered; says their ids in order.
    pub fn receive(&mut self, count: usize) -> Vec<String> {
        let already = self.delivered.len();
        self.broker.set_demand(count as u32);
        self.until("deliveries", |driver| driver.delivered.len() >= already + count);
        self.broker.set_demand(0);
        self.ids()[already..].to_vec()
    }

    /// The ids of everything delivered so far.
    pub fn ids(&self) -> Vec<String> {
        self.delivered.iter().map(id_of).collect()
    }

    pub fn tags(&self) -> Vec<DeliveryTag> {
        self.delivered.iter().map(|incoming| incoming.tag).collect()
    }

    /// Settles and waits for the server's confirmation.
    pub fn settle(&mut self, settlements: &[(DeliveryTag, Settlement)]) {
        self.broker.settle(settlements);
        self.until("settlements confirmed", |driver| driver.broker.pending_settlements() == 0);
    }

    pub fn settle_all(&mut self, how: Settlement) {
        let settlements: Vec<_> = self.tags().into_iter().map(|tag| (tag, how)).collect();
        self.settle(&settlements);
    }

    pub fn stop(mut self) {
        self.broker.stop(self.poll.registry());
    }
}

/// The id of a message, or its raw bytes if nobody can read it.
pub fn id_of(incoming: &Incoming) -> String {
    match &incoming.content {
        Ok(envelope) => envelope.id().to_owned(),
        Err(undecodable) => String::from_utf8_lossy(&undecodable.raw).into_owned(),
    }
}
