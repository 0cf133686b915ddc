//! Publishes from a thread of its own for owners that must not wait for a confirmation.
//!
//! The thread lives as long as there is work, and a connection of its own: a server that blocks publishers stops
//! reading from them, and nobody else's frames must wait behind that.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::JoinHandle;

use mio::{Interest, Registry, Token};

use super::{AmqpOutgoing, AmqpPublisher, AmqpPublisherOptions};
use crate::config::amqp::{AmqpAddress, Declaration};
use crate::error::{Error, ErrorKind, Result};

const TIMEOUT_S: f64 = 30.0;
/// Most messages in one confirmed batch.
const BATCH_MAX: usize = 1000;

/// A message to be published.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// The owner's name for it.
    pub(crate) tag: u64,
    pub(crate) routing_key: String,
    /// See `build_message`.
    pub(crate) message: Vec<u8>,
}

/// Parcels that shared a batch, and what became of all of them.
pub(crate) type Outcome = (Vec<Parcel>, Result<()>);

/// Where parcels go.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// The servers, tried in order.
    pub(crate) addresses: Vec<AmqpAddress>,
    /// Declared before the first parcel.
    pub(crate) declarations: Vec<Declaration>,
    /// The exchange; empty is the default one.
    pub(crate) exchange: &'static str,
    /// Whether a parcel that no queue takes is an error.
    pub(crate) mandatory: bool,
}

#[derive(Debug)]
struct Running {
    parcels: mpsc::Sender<Vec<Parcel>>,
    outcomes: mpsc::Receiver<Outcome>,
    /// Becomes readable when there are outcomes.
    bell: mio::net::UnixStream,
    thread: JoinHandle<()>,
}

/// The thread's handle; it is started by the first parcel.
#[derive(Debug)]
pub(crate) struct Courier {
    purpose: &'static str,
    route: Route,
    running: Option<Running>,
}

impl Courier {
    /// `purpose` names the thread.
    pub(crate) fn new(purpose: &'static str, route: Route) -> Self {
        Self { purpose, route, running: None }
    }

    /// Hands parcels to the thread; the token becomes ready when there are outcomes.
    ///
    /// # Errors
    ///
    /// There is no thread to be had; the parcels are lost with it.
    pub(crate) fn submit(&mut self, registry: &Registry, token: Token, parcels: Vec<Parcel>) -> Result<()> {
        if self.running.as_ref().is_some_and(|running| running.thread.is_finished()) {
            self.running = None;
        }
        let running = match &mut self.running {
            Some(running) => running,
            None => self.running.insert(start(registry, token, self.purpose, self.route.clone())?),
        };
        running.parcels.send(parcels).map_err(|_| Error::new(ErrorKind::Internal, "the publishing thread ended"))
    }

    /// What became of parcels since the last call.
    pub(crate) fn outcomes(&mut self) -> Vec<Outcome> {
        let Some(running) = &mut self.running else { return Vec::new() };
        let mut rings = [0; 64];
        // Edge-triggered: emptied, so that the next ring is an edge.
        while matches!(running.bell.read(&mut rings), Ok(1..)) {}
        running.outcomes.try_iter().collect()
    }
}

fn start(registry: &Registry, token: Token, purpose: &str, route: Route) -> Result<Running> {
    let (bell, ringer) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    ringer.set_nonblocking(true)?;
    let mut bell = mio::net::UnixStream::from_std(bell);
    registry.register(&mut bell, token, Interest::READABLE)?;
    let publisher = AmqpPublisher::new(AmqpPublisherOptions {
        addresses: route.addresses.clone(),
        confirm: true,
        timeout_s: TIMEOUT_S,
        max_idle: 1,
    })?;
    let (parcels, inbox) = mpsc::channel::<Vec<Parcel>>();
    let (outbox, outcomes) = mpsc::channel();
    let thread = std::thread::Builder::new().name(format!("pyworker-{purpose}")).spawn(move || {
        while let Ok(mut parcels) = inbox.recv() {
            while parcels.len() < BATCH_MAX
                && let Ok(more) = inbox.try_recv()
            {
                parcels.extend(more);
            }
            let outcome = publisher.declare(&route.declarations).and_then(|()| publish(&publisher, &route, &parcels));
            if outbox.send((parcels, outcome)).is_err() {
                return;
            }
            // A full bell rings already.
            let _ = (&ringer).write(&[1]);
        }
    })?;
    Ok(Running { parcels, outcomes, bell, thread })
}

fn publish(publisher: &AmqpPublisher, route: &Route, parcels: &[Parcel]) -> Result<()> {
    let outgoing: Vec<AmqpOutgoing<'_>> = parcels
        .iter()
        .map(|parcel| AmqpOutgoing {
            exchange: route.exchange,
            routing_key: &parcel.routing_key,
            mandatory: route.mandatory,
            message: &parcel.message,
        })
        .collect();
    publisher.publish_many(&outgoing, None)
}
