//! A private redis-server on a free port, killed and cleaned away at the end.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use pyworker_native::config::RedisAddress;
use pyworker_native::wire::resp::{Frame, Limits, decode, write_command};

use super::{DEADLINE, wait_for};

static COUNTER: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
pub struct RedisServer {
    process: Option<Child>,
    directory: PathBuf,
    options: Vec<String>,
    pub port: u16,
}

impl RedisServer {
    /// Starts a server with additional options (`["--maxmemory", "1mb"]`) and waits until it answers.
    pub fn start(options: &[&str]) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::SeqCst);
        let directory = std::env::temp_dir().join(format!("pyworker-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = options.iter().map(ToString::to_string).collect();
        let mut server = Self { process: None, directory, options, port };
        server.restart();
        server
    }

    /// Starts the server again on its port, empty.
    pub fn restart(&mut self) {
        self.kill();
        let process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(&self.directory)
            .args(["--unixsocket", &self.unix_path()])
            .args(&self.options)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.process = Some(process);
        wait_for("redis-server", || RedisClient::connect(self.port).ok()?.try_ask(&[b"PING"]).ok());
    }

    /// Ends the server as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Sends a signal to the server, such as SIGSTOP.
    #[allow(unsafe_code)]
    pub fn signal(&self, signal: i32) {
        let pid = self.process.as_ref().unwrap().id() as i32;
        // SAFETY: a signal to a child of ours that was not waited for yet.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    pub fn unix_path(&self) -> String {
        self.directory.join("redis.sock").display().to_string()
    }

    pub fn address(&self) -> RedisAddress {
        RedisAddress {
            host: "127.0.0.1".into(),
            port: self.port,
            unix_path: None,
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

    pub fn client(&self) -> RedisClient {
        RedisClient::connect(self.port).unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A plain client to look at the server from outside.
#[derive(Debug)]
pub struct RedisClient {
    stream: TcpStream,
    input: Vec<u8>,
}

impl RedisClient {
    fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self { stream, input: Vec::new() })
    }

    fn try_ask(&mut self, command: &[&[u8]]) -> std::io::Result<Frame> {
        let mut bytes = Vec::new();
        write_command(&mut bytes, command);
        self.stream.write_all(&bytes)?;
        self.try_receive()
    }

    fn try_receive(&mut self) -> std::io::Result<Frame> {
        loop {
            if let Some((frame, used)) = decode(&self.input, &Limits::default()).map_err(std::io::Error::other)? {
                self.input.drain(..used);
                return Ok(frame);
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                size => self.input.extend_from_slice(&piece[..size]),
            }
        }
    }

    /// Runs a command given as words.
    pub fn ask(&mut self, command: &str) -> Frame {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.ask_bytes(&words)
    }

    /// Runs a command.
    pub fn ask_bytes(&mut self, command: &[&[u8]]) -> Frame {
        self.try_ask(command).unwrap()
    }

    /// Waits for the next message (after SUBSCRIBE).
    pub fn receive(&mut self) -> Frame {
        self.try_receive().unwrap()
    }

    /// A string key's value.
    pub fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        self.ask_bytes(&[b"GET", key.as_bytes()]).into_bytes().ok()
    }

    /// A field of INFO.
    pub fn info(&mut self, section: &str, field: &str) -> f64 {
        let text = self.ask_bytes(&[b"INFO", section.as_bytes()]);
        let line =
            text.as_str().unwrap().lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap().to_owned();
        line[field.len() + 1..].trim().parse().unwrap()
    }
}
