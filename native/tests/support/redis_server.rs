//! A Redis server of one test: on a Unix socket in a directory of its own, gone when dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pyworker_native::config::RedisAddress;

use super::redis_client::RedisClient;

static NEXT: AtomicU32 = AtomicU32::new(0);
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
#[derive(Debug)]
pub struct RedisServer {
    directory: PathBuf,
    child: Child,
    arguments: Vec<String>,
}

impl RedisServer {
    pub fn start(arguments: &[&str]) -> Self {
        let name = format!("pyworker-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let child = spawn(&directory, &arguments);
        let server = Self { directory, child, arguments };
        server.wait_until_up();
        server
    }

    pub fn socket_path(&self) -> PathBuf {
        self.directory.join("redis.sock")
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self) -> RedisClient {
        RedisClient::connect(&self.socket_path()).expect("the test server accepts")
    }

    pub fn address(&self) -> RedisAddress {
        RedisAddress {
            host: String::new(),
            port: 0,
            unix_path: Some(self.socket_path().display().to_string()),
            database: 0,
            username: None,
            password: None,
            client_name: None,
            connect_timeout_s: 5.0,
            socket_timeout_s: None,
            keepalive: true,
            health_check_interval_s: 25.0,
            tls: None,
            sentinel: None,
            credential_source: None,
            alternates: Vec::new(),
        }
    }

    /// Stops the server, keeping what it holds.
    pub fn stop(&mut self) {
        let _ = self.client().run(&[b"SHUTDOWN", b"SAVE"]);
        self.child.wait().expect("the server ends");
    }

    /// Starts the stopped server again with what it held.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.directory, &self.arguments);
        self.wait_until_up();
    }

    fn wait_until_up(&self) {
        let start = Instant::now();
        loop {
            if let Ok(mut client) = RedisClient::connect(&self.socket_path())
                && client.run(&[b"PING"]).is_ok_and(|answer| !format!("{answer:?}").contains("LOADING"))
            {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "redis-server did not come up");
            std::thread::yield_now();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn(directory: &Path, arguments: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no", "--dir"])
        .arg(directory)
        .args(arguments)
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

/// Waits for another process to get somewhere.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::yield_now();
    }
}
