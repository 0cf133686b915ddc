//! Constructor calls in order. What is made last here is the first to go on the way down.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use mio::{Poll, Waker};

use crate::broker::Broker;
use crate::broker::amqp::{AmqpBroker, Patience};
use crate::broker::kombu::KombuBroker;
use crate::broker::redis::RedisBroker;
use crate::broker::sqlite::SqliteBroker;
use crate::clock::{Clock, SystemClock};
use crate::config::{BrokerConfig, EngineConfig, RedisBrokerConfig, RedisResultConfig, ResultConfig};
use crate::engine::children::Place;
use crate::engine::counters::Counters;
use crate::engine::jobs::JobTable;
use crate::engine::lifecycle::Lifecycle;
use crate::engine::node::{Node, WAKER};
use crate::engine::pool_watch;
use crate::engine::rates::RateLimits;
use crate::engine::shared::Shared;
use crate::engine::writes::WriteTable;
use crate::error::Result;
use crate::eta::EtaHeap;
use crate::pool::supervisor::ForkServer;
use crate::qos::PrefetchLedger;
use crate::results::ResultStore;
use crate::results::amqp::AmqpResultStore;
use crate::results::redis::RedisResultStore;
use crate::results::sqlite::SqliteResultStore;
use crate::sqlite::side_clock::clock_of;
use crate::watch::Watch;

/// Makes a node that is ready to run, and what others share with it.
pub fn build(config: EngineConfig, fork_server: OwnedFd) -> Result<(Node, Arc<Shared>)> {
    config.validate()?;
    let clock: Arc<dyn Clock> = match &config.broker {
        BrokerConfig::Sqlite(sqlite) => clock_of(&sqlite.address),
        _ => Arc::new(SystemClock),
    };
    let poll = Poll::new()?;
    let shared = Arc::new(Shared::new(Waker::new(poll.registry(), WAKER)?)?);
    // A result store in the broker's own file shares its thread and its commits.
    let mut session = None;
    let broker: Box<dyn Broker> = match &config.broker {
        BrokerConfig::Amqp(amqp) => {
            Box::new(AmqpBroker::new(amqp.clone(), Patience::of(&config.tasks), Arc::clone(&clock))?)
        }
        BrokerConfig::Kombu(kombu) => Box::new(KombuBroker::new(kombu.clone())),
        BrokerConfig::Redis(redis) => Box::new(RedisBroker::new(RedisBrokerConfig::clone(redis), Arc::clone(&clock))),
        BrokerConfig::Sqlite(sqlite) => {
            let broker = SqliteBroker::new(sqlite.clone(), Arc::clone(&clock))?;
            session = Some((&sqlite.address, Arc::clone(broker.session())));
            Box::new(broker)
        }
    };
    let store: Option<Box<dyn ResultStore>> = match &config.results {
        None => None,
        Some(ResultConfig::Redis(redis)) => Some(Box::new(RedisResultStore::new(RedisResultConfig::clone(redis)))),
        Some(ResultConfig::Amqp(amqp)) => Some(Box::new(AmqpResultStore::new(amqp.clone()))),
        Some(ResultConfig::Sqlite(sqlite)) => match session {
            Some((address, session)) if *address == sqlite.address => {
                Some(Box::new(SqliteResultStore::on(session, sqlite.expires_s)))
            }
            _ => Some(Box::new(SqliteResultStore::new(sqlite.clone(), clock_of(&sqlite.address))?)),
        },
    };
    let server = ForkServer::new(fork_server)?;
    pool_watch::watch(&server, poll.registry())?;
    let tasks = config.tasks.iter().enumerate();
    let limited = tasks.clone().filter_map(|(index, task)| task.rate_limit_per_s.map(|per_s| (index as u16, per_s)));
    let rates = RateLimits::new(limited);
    let node = Node {
        watches: config.tasks.iter().any(|task| task.watched),
        task_index: tasks.map(|(index, task)| (task.name.as_str().into(), index as u16)).collect(),
        expected_ns: vec![0; config.tasks.len()],
        started_by_task: vec![0; config.tasks.len()],
        ledger: PrefetchLedger::new(config.prefetch, config.pool.concurrency),
        places: (0..config.pool.concurrency).map(|_| Place::default()).collect(),
        config,
        clock,
        poll,
        shared: Arc::clone(&shared),
        broker,
        store,
        server,
        jobs: JobTable::default(),
        ready: Default::default(),
        eta: EtaHeap::new(),
        scheduled: Default::default(),
        recalled: Default::default(),
        limits: Default::default(),
        rates,
        revoked: Default::default(),
        watches_stamps: false,
        events: Default::default(),
        added_queues: Default::default(),
        settlements: Vec::new(),
        notices: Vec::new(),
        writes: WriteTable::default(),
        counters: Counters::default(),
        lifecycle: Lifecycle::Running,
        consuming: true,
        was_connected: false,
        next_tidy_ns: 0,
        ended: 0,
        restless: false,
        watch: Watch::default(),
    };
    Ok((node, shared))
}
