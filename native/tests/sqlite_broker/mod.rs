//! The contract on a SQLite file and on `memory://`, and what only they promise.

mod file;
mod identity;
mod memory;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pyworker_native::broker::Broker;
use pyworker_native::broker::sqlite::SqliteBroker;
use pyworker_native::clock::SystemClock;
use pyworker_native::config::QueueOrder;
use pyworker_native::sqlite::client::SqliteClient;
use pyworker_native::sqlite::{SqliteAddress, SqliteBrokerConfig};
use rusqlite::Connection;

use crate::scenarios::{BrokerFactory, Setup, exercise};
use crate::support::message::envelope;
use crate::support::retries;

static NEXT: AtomicU32 = AtomicU32::new(0);
pub const STEPS: [u8; 4] = [0, 3, 6, 9];

/// A folder of one test, gone when dropped.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    pub fn below(parent: &Path) -> Self {
        let name = format!("pyworker-sqlite-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Brokers on one file.
#[derive(Debug)]
pub struct SqliteFactory {
    pub folder: Folder,
    nth: u32,
    durable: bool,
    client: Option<SqliteClient>,
    /// Keeps everybody else from writing while it lives.
    lock: Option<Connection>,
}

impl SqliteFactory {
    pub fn new(durable: bool) -> Self {
        Self { folder: Folder::new(), nth: 0, durable, client: None, lock: None }
    }

    /// What `memory://` is: files in the machine's memory.
    pub fn in_memory() -> Self {
        Self { folder: Folder::below(Path::new("/dev/shm")), ..Self::new(false) }
    }

    pub fn address(&self) -> SqliteAddress {
        let path = self.folder.0.join(format!("file{}.db", self.nth));
        SqliteAddress { path, durable: self.durable, busy_timeout_ms: 300 }
    }

    pub fn config(&self, setup: &Setup) -> SqliteBrokerConfig {
        SqliteBrokerConfig {
            address: self.address(),
            queues: setup.queues.clone(),
            priority_steps: STEPS.to_vec(),
            queue_order: if setup.round_robin { QueueOrder::RoundRobin } else { QueueOrder::Priority },
            visibility_timeout_s: setup.visibility_timeout_s,
            owner: setup.owner.clone(),
            retry: retries::soon(),
            max_message_bytes: 512 << 20,
        }
    }

    pub fn client(&mut self) -> &SqliteClient {
        let address = self.address();
        self.client.get_or_insert_with(|| SqliteClient::open(address, STEPS.to_vec()).expect("the file opens"))
    }

    /// Another program's connection, that is: one that does not know our rules.
    pub fn other(&self) -> Connection {
        Connection::open(self.address().path).expect("the file opens")
    }

    pub fn number(&mut self, sql: &str) -> i64 {
        self.client();
        self.other().query_row(sql, [], |row| row.get(0)).expect("a number")
    }
}

pub fn make(config: SqliteBrokerConfig) -> Box<dyn Broker> {
    Box::new(SqliteBroker::new(config, Arc::new(SystemClock)).expect("a broker"))
}

impl BrokerFactory for SqliteFactory {
    fn broker(&mut self, setup: &Setup) -> Box<dyn Broker> {
        make(self.config(setup))
    }

    fn publish(&mut self, queue: &str, id: &str, priority: u8) {
        let message = envelope(id, priority);
        self.client().publish([(queue, i64::from(priority), message.as_slice())]).expect("published");
    }

    fn waiting(&mut self, queue: &str) -> usize {
        self.client().size(queue).expect("a size") as usize
    }

    fn held(&mut self) -> usize {
        let messages = self.number("SELECT count(*) FROM messages");
        let held = self.number("SELECT count(*) FROM held");
        let ready = self.number("SELECT count(*) FROM ready") + self.number("SELECT count(*) FROM later");
        assert_eq!(messages, held + ready);
        held as usize
    }

    fn take_server_away(&mut self) {
        let lock = self.other();
        lock.execute_batch("PRAGMA busy_timeout = 20000; BEGIN IMMEDIATE").expect("the file is locked");
        self.lock = Some(lock);
    }

    fn bring_server_back(&mut self) {
        self.lock = None;
    }

    fn bury(&mut self, owner: &str) {
        let other = self.other();
        other.busy_timeout(std::time::Duration::from_secs(20)).expect("a timeout");
        other.execute("UPDATE nodes SET seen_ns = 0, lease_ns = 1 WHERE name = ?1", [owner]).expect("buried");
    }

    fn steal_leases(&mut self) {
        let other = self.other();
        other.busy_timeout(std::time::Duration::from_secs(20)).expect("a timeout");
        other
            .execute_batch("BEGIN IMMEDIATE; DELETE FROM held; DELETE FROM messages; DELETE FROM nodes; COMMIT")
            .expect("stolen");
    }

    fn wipe(&mut self) {
        self.client = None;
        self.nth += 1;
    }
}

/// Without waiting for the disk, which says nothing about the contract; `file.rs` has the durable form.
#[test]
fn sqlite_keeps_the_contract() {
    exercise(&mut SqliteFactory::new(false));
}
