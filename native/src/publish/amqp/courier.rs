//! Publishes to the delay levels from a thread of its own, because a publish waits for its confirmation.
//!
//! The thread lives as long as there is work, and a connection of its own: a server that blocks publishers stops
//! reading from them, and acks must not wait behind that.

use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::JoinHandle;

use mio::{Interest, Registry, Token};

use crate::broker::DeliveryTag;
use crate::config::amqp::{AmqpAddress, Declaration};
use crate::error::{Error, ErrorKind, Result};
use crate::publish::amqp::{AmqpOutgoing, AmqpPublisher, AmqpPublisherOptions};

/// Where every delayed message begins.
const FIRST_LEVEL: &str = "celery_delayed_27";
const TIMEOUT_S: f64 = 30.0;
/// Most messages in one confirmed batch.
const BATCH_MAX: usize = 1000;

/// A message to be parked.
#[derive(Debug)]
pub(super) struct ParkJob {
    pub(super) tag: DeliveryTag,
    pub(super) routing_key: String,
    /// See `publish::amqp::build_message`.
    pub(super) message: Vec<u8>,
}

type Outcome = (Vec<DeliveryTag>, Result<()>);

#[derive(Debug)]
struct Running {
    jobs: mpsc::Sender<Vec<ParkJob>>,
    outcomes: mpsc::Receiver<Outcome>,
    /// Becomes readable when there are outcomes.
    bell: mio::net::UnixStream,
    thread: JoinHandle<()>,
}

/// The thread's handle; it is started by the first job.
#[derive(Debug)]
pub(super) struct Parker {
    addresses: Vec<AmqpAddress>,
    declarations: Vec<Declaration>,
    running: Option<Running>,
}

impl Parker {
    pub(super) fn new(addresses: Vec<AmqpAddress>, declarations: Vec<Declaration>) -> Self {
        Self { addresses, declarations, running: None }
    }

    /// Hands jobs to the thread.
    pub(super) fn submit(&mut self, registry: &Registry, token: Token, jobs: Vec<ParkJob>) -> Result<()> {
        if self.running.as_ref().is_some_and(|running| running.thread.is_finished()) {
            self.running = None;
        }
        let running = match &mut self.running {
            Some(running) => running,
            None => self.running.insert(start(registry, token, &self.addresses, &self.declarations)?),
        };
        running.jobs.send(jobs).map_err(|_| Error::new(ErrorKind::Internal, "the parking thread ended"))
    }

    /// What became of jobs since the last call.
    pub(super) fn results(&mut self, _registry: &Registry) -> Vec<Outcome> {
        let Some(running) = &mut self.running else { return Vec::new() };
        let mut rings = [0; 64];
        // Edge-triggered: emptied, so that the next ring is an edge.
        while matches!(std::io::Read::read(&mut running.bell, &mut rings), Ok(1..)) {}
        running.outcomes.try_iter().collect()
    }
}

fn start(
    registry: &Registry,
    token: Token,
    addresses: &[AmqpAddress],
    declarations: &[Declaration],
) -> Result<Running> {
    let (bell, ringer) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    ringer.set_nonblocking(true)?;
    let mut bell = mio::net::UnixStream::from_std(bell);
    registry.register(&mut bell, token, Interest::READABLE)?;
    let publisher = AmqpPublisher::new(AmqpPublisherOptions {
        addresses: addresses.to_vec(),
        confirm: true,
        timeout_s: TIMEOUT_S,
        max_idle: 1,
    })?;
    let declarations = declarations.to_vec();
    let (jobs, inbox) = mpsc::channel::<Vec<ParkJob>>();
    let (outbox, outcomes) = mpsc::channel();
    let thread = std::thread::Builder::new().name("pyworker-parking".into()).spawn(move || {
        while let Ok(mut jobs) = inbox.recv() {
            while jobs.len() < BATCH_MAX
                && let Ok(more) = inbox.try_recv()
            {
                jobs.extend(more);
            }
            let outcome = publisher.declare(&declarations).and_then(|()| publish(&publisher, &jobs));
            let tags = jobs.iter().map(|job| job.tag).collect();
            if outbox.send((tags, outcome)).is_err() {
                return;
            }
            // A full bell rings already.
            let _ = std::io::Write::write(&mut &ringer, &[1]);
        }
    })?;
    Ok(Running { jobs, outcomes, bell, thread })
}

fn publish(publisher: &AmqpPublisher, jobs: &[ParkJob]) -> Result<()> {
    let outgoing: Vec<AmqpOutgoing<'_>> = jobs
        .iter()
        .map(|job| AmqpOutgoing {
            exchange: FIRST_LEVEL,
            routing_key: &job.routing_key,
            mandatory: true,
            message: &job.message,
        })
        .collect();
    publisher.publish_many(&outgoing)
}
