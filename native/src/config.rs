//! The engine's configuration: parsed once on the Python side, validated here, immutable afterwards.

pub mod amqp;
mod retry;

pub use self::retry::RetryPolicy;
use crate::broker::kombu::KombuBrokerConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::net::settings::{CredentialSource, SentinelSettings, TlsSettings};
use crate::sqlite::{SqliteBrokerConfig, SqliteResultConfig};

/// Where and how to reach a Redis server.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisAddress {
    /// Host name or address; ignored when `unix_path` is given.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path of a Unix socket.
    pub unix_path: Option<String>,
    /// Database number, selected after connecting.
    pub database: u32,
    /// ACL user.
    pub username: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// Name shown by `CLIENT LIST`.
    pub client_name: Option<String>,
    /// Limit for opening a connection, handshake included.
    pub connect_timeout_s: f64,
    /// Limit for an answer; `None` waits as long as the connection lives.
    pub socket_timeout_s: Option<f64>,
    /// TCP keep-alive.
    pub keepalive: bool,
    /// Idle connections are pinged this often; zero never.
    pub health_check_interval_s: f64,
    /// Encrypts the connection.
    pub tls: Option<TlsSettings>,
    /// The server is whichever Sentinel says is the group's primary; host and port do not count then.
    pub sentinel: Option<SentinelSettings>,
    /// Gives user and password at each connection, instead of those above.
    pub credential_source: Option<CredentialSource>,
    /// Servers to try in this order when this one cannot be reached (kombu's alternate URLs).
    pub alternates: Vec<RedisAddress>,
}

/// In which order several queues are read (kombu's `queue_order_strategy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueOrder {
    /// Each queue in turn (kombu's default).
    RoundRobin,
    /// Always in the configured order (kombu's `sorted` after the names were sorted, and `priority`).
    Priority,
}

/// The Redis broker, in kombu's layout.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisBrokerConfig {
    /// The server.
    pub address: RedisAddress,
    /// Queue names without prefix.
    pub queues: Vec<String>,
    /// kombu's `priority_steps`; the first has no suffix.
    pub priority_steps: Vec<u8>,
    /// kombu's `sep`, between queue name and priority.
    pub separator: String,
    /// Prefix of every key.
    pub global_keyprefix: String,
    /// Reading order.
    pub queue_order: QueueOrder,
    /// Seconds after which other workers take a message that we do not renew.
    pub visibility_timeout_s: f64,
    /// kombu's `unacked_key`.
    pub unacked_key: String,
    /// kombu's `unacked_index_key`.
    pub unacked_index_key: String,
    /// Names this node in tags and leases; unique per process.
    pub owner: String,
    /// Retry rule of the connection.
    pub retry: RetryPolicy,
    /// A message larger than this is undecodable.
    pub max_message_bytes: u64,
}

/// Results in Redis.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisResultConfig {
    /// The server.
    pub address: RedisAddress,
    /// Seconds after which a result disappears; `None` keeps it.
    pub expires_s: Option<u64>,
    /// Retry rule of the connection.
    pub retry: RetryPolicy,
}

/// Which broker.
#[derive(Debug, Clone, PartialEq)]
pub enum BrokerConfig {
    /// Redis.
    Redis(Box<RedisBrokerConfig>),
    /// An embedded SQLite file.
    Sqlite(SqliteBrokerConfig),
    /// RabbitMQ.
    Amqp(amqp::AmqpBrokerConfig),
    /// A transport of kombu's, driven by a Python thread.
    Kombu(KombuBrokerConfig),
}

/// Which result store.
#[derive(Debug, Clone, PartialEq)]
pub enum ResultConfig {
    /// Redis.
    Redis(Box<RedisResultConfig>),
    /// An embedded SQLite file.
    Sqlite(SqliteResultConfig),
    /// Messages to whoever waits.
    Amqp(amqp::AmqpResultConfig),
}

/// When and how a task's message is acknowledged, and its limits.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskConfig {
    /// Registered name.
    pub name: String,
    /// Acknowledge after the task instead of when it starts.
    pub acks_late: bool,
    /// Late acks only: whether a failure acknowledges (else rejects).
    pub acks_on_failure: bool,
    /// Soft time limit.
    pub soft_time_limit_s: Option<f64>,
    /// Hard time limit.
    pub time_limit_s: Option<f64>,
    /// Starts per second on this node.
    pub rate_limit_per_s: Option<f64>,
    /// Whether every delivery goes through the parent's Python side before dispatch (the parent lane).
    pub parent_lane: bool,
    /// Whether Python's request of this task is told of its start and its end.
    pub watched: bool,
}

/// The pool of child processes.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolConfig {
    /// Number of children.
    pub concurrency: u32,
    /// Tasks after which a child is replaced.
    pub max_tasks_per_child: Option<u32>,
    /// A new child that is not initialised after this time is replaced; `None` waits for ever.
    pub up_timeout_s: Option<f64>,
    /// Capacity of each direction of a link; larger frames go through the link's socket.
    pub link_capacity_bytes: u32,
}

/// Prefetch rules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrefetchConfig {
    /// Celery's `worker_prefetch_multiplier`; zero lifts the count.
    pub multiplier: u32,
    /// `--disable-prefetch`: reserve only what can start at once.
    pub strict: bool,
    /// The reserve grows to what the pool starts within this time; zero: never, and nothing is handed back early.
    pub window_s: f64,
    /// After a lost connection the count is lower while tasks run (`worker_enable_prefetch_count_reduction`).
    pub reduces_after_loss: bool,
    /// Bound on the bytes of reserved messages.
    pub max_reserved_bytes: u64,
}

/// Everything the engine needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// Node name (`celery@host`).
    pub hostname: String,
    /// The broker.
    pub broker: BrokerConfig,
    /// The result store; without one children write results themselves, through the library's backend.
    pub results: Option<ResultConfig>,
    /// Registered tasks; the position is the task's index everywhere.
    pub tasks: Vec<TaskConfig>,
    /// The pool.
    pub pool: PoolConfig,
    /// Prefetch.
    pub prefetch: PrefetchConfig,
    /// Deliveries of one message after which it is failed and parked.
    pub max_deliveries: u32,
    /// Whether a notice is wanted for each received task (INFO logging or `task_received` receivers).
    pub notice_received: bool,
    /// Upper bound of `worker_eta_task_limit`.
    pub eta_task_limit: Option<u32>,
}

impl EngineConfig {
    /// Checks what no type can express; the error names the field.
    pub fn validate(&self) -> Result<()> {
        let fail = |text: &str| Err(Error::new(ErrorKind::Config, text));
        if self.pool.concurrency == 0 {
            return fail("concurrency: must be at least 1");
        }
        if self.pool.link_capacity_bytes < 65_536 || !self.pool.link_capacity_bytes.is_power_of_two() {
            return fail("link_capacity_bytes: must be a power of two of at least 65536");
        }
        if self.pool.up_timeout_s.is_some_and(|seconds| seconds.is_nan() || seconds <= 0.0) {
            return fail("worker_proc_alive_timeout: must be a positive number of seconds");
        }
        if self.tasks.len() > usize::from(u16::MAX) {
            return fail("tasks: more than 65535 registered tasks");
        }
        if !(self.prefetch.window_s >= 0.0 && self.prefetch.window_s.is_finite()) {
            return fail("prefetch window: must be a number of seconds, not negative");
        }
        for task in &self.tasks {
            if task.rate_limit_per_s.is_some_and(|per_s| !(per_s > 0.0 && per_s.is_finite())) {
                return fail(&format!("rate_limit of {}: must be a positive number per second", task.name));
            }
        }
        match &self.broker {
            BrokerConfig::Amqp(amqp) => amqp.validate()?,
            BrokerConfig::Kombu(kombu) => kombu.validate()?,
            BrokerConfig::Redis(redis) => {
                if redis.queues.is_empty() {
                    return fail("queues: at least one queue is needed");
                }
                if redis.queues.len() > usize::from(u16::MAX) {
                    return fail("queues: more than 65535 queues");
                }
                if redis.priority_steps.is_empty() {
                    return fail("priority_steps: at least one step is needed");
                }
                if redis.visibility_timeout_s.is_nan() || redis.visibility_timeout_s < 1.0 {
                    return fail("visibility_timeout: must be at least one second");
                }
            }
            BrokerConfig::Sqlite(sqlite) => {
                if sqlite.queues.is_empty() {
                    return fail("queues: at least one queue is needed");
                }
                if sqlite.queues.len() > usize::from(u16::MAX) {
                    return fail("queues: more than 65535 queues");
                }
                if sqlite.visibility_timeout_s.is_nan() || sqlite.visibility_timeout_s < 1.0 {
                    return fail("visibility_timeout: must be at least one second");
                }
            }
        }
        Ok(())
    }
}
