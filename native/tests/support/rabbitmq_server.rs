//! A RabbitMQ node of one test: on free ports in a directory of its own, gone when dropped.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pyworker_native::config::amqp::AmqpAddress;

static NEXT: AtomicU32 = AtomicU32::new(0);
/// A node takes seconds to start, many on a machine under load.
const PATIENCE: Duration = Duration::from_secs(180);
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// What a node logs at the end of its start. Before that it listens already, but takes its own queues for down: it
/// deletes one by force and does not tell the consumers.
const STARTED: &str = "Server startup complete";

/// A running node with its own port mapper.
#[derive(Debug)]
pub struct RabbitmqServer {
    directory: PathBuf,
    pub port: u16,
    mapper_port: u16,
    node_port: u16,
    mapper: Child,
    node: Child,
    /// How often the node was started.
    starts: usize,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

impl RabbitmqServer {
    pub fn start() -> Self {
        assert!(std::path::Path::new(SERVER).exists(), "rabbitmq-server is not installed (scripts/install_rabbitmq)");
        let name = format!("pyworker-rabbitmq-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        let settings = "disk_free_limit.absolute = 1MB\nloopback_users = none\nlog.console = false\n";
        std::fs::write(directory.join("rabbitmq.conf"), settings).expect("a configuration");
        std::fs::write(directory.join("enabled_plugins"), "[].").expect("no plugins");
        let mapper_port = free_port();
        let mapper = dies_with_us("epmd")
            .args(["-port", &mapper_port.to_string(), "-address", "127.0.0.1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("epmd is installed");
        let (port, node_port) = (free_port(), free_port());
        let node = spawn(&directory, port, mapper_port, node_port);
        let mut server = Self { directory, port, mapper_port, node_port, mapper, node, starts: 1 };
        server.wait_until_up();
        server
    }

    pub fn address(&self) -> AmqpAddress {
        AmqpAddress {
            host: "127.0.0.1".into(),
            port: self.port,
            virtual_host: "/".into(),
            username: "guest".into(),
            password: "guest".into(),
            login_method: "PLAIN".into(),
            connect_timeout_s: 20.0,
            heartbeat_s: 60,
            connection_name: "test".into(),
            tls: None,
            credential_source: None,
        }
    }

    /// Kills the node; what is durable it has when it is started again.
    pub fn stop(&mut self) {
        kill_group(&mut self.node);
    }

    /// Starts the stopped node again.
    pub fn start_again(&mut self) {
        self.node = spawn(&self.directory, self.port, self.mapper_port, self.node_port);
        self.starts += 1;
        self.wait_until_up();
    }

    fn wait_until_up(&mut self) {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() || self.logged_starts() < self.starts {
            assert!(start.elapsed() < PATIENCE, "rabbitmq-server did not come up");
            assert!(self.node.try_wait().is_ok_and(|end| end.is_none()), "rabbitmq-server ended");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn logged_starts(&self) -> usize {
        let log = self.directory.join(format!("pyworker{}@localhost.log", self.port));
        std::fs::read(log).map_or(0, |text| String::from_utf8_lossy(&text).matches(STARTED).count())
    }
}

impl Drop for RabbitmqServer {
    fn drop(&mut self) {
        kill_group(&mut self.node);
        let _ = self.mapper.kill();
        let _ = self.mapper.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A command whose process is killed when this one ends without a chance to tidy up.
fn dies_with_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// Erlang has helpers of its own; they are in the node's process group.
fn kill_group(node: &mut Child) {
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", node.id())]).stderr(Stdio::null()).status();
    let _ = node.wait();
}

fn spawn(directory: &std::path::Path, port: u16, mapper_port: u16, node_port: u16) -> Child {
    dies_with_us(SERVER)
        .env("HOME", directory)
        .env("RABBITMQ_NODENAME", format!("pyworker{port}@localhost"))
        .env("ERL_EPMD_PORT", mapper_port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", node_port.to_string())
        .env("RABBITMQ_MNESIA_BASE", directory.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", directory)
        .env("RABBITMQ_CONFIG_FILE", directory.join("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", directory.join("enabled_plugins"))
        .env("RABBITMQ_PID_FILE", directory.join("pid"))
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -start_epmd false")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("rabbitmq-server starts")
}
