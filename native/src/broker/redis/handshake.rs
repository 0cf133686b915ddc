//! Opening a connection, in blocking mode, on a thread of its own: name resolution, connecting, and
//! everything that must be said before the first command.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::sentinel;
use super::server_error::classify;
use crate::config::RedisAddress;
use crate::error::{Error, ErrorKind, Result};
use crate::net::dialing::{Place, dial, remaining};
use crate::net::raw_socket::RawSocket;
use crate::net::settings::Credentials;
use crate::wire::resp::{Frame, Limits, decode, write_command};

/// What the server said about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ServerInfo {
    /// Major, minor, patch.
    pub(crate) version: (u32, u32, u32),
    /// Whether pushes are possible.
    pub(crate) resp3: bool,
    /// The server's name for this connection.
    pub(crate) client_id: Option<i64>,
    /// Our end of a TCP connection.
    pub(crate) local_address: Option<SocketAddr>,
}

/// What opening brings.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) socket: RawSocket,
    pub(crate) info: ServerInfo,
    /// Where Sentinel sent us.
    pub(crate) primary: Option<sentinel::Primary>,
}

/// How long `open` may take at most.
pub(crate) fn limit_s(address: &RedisAddress) -> f64 {
    let one_s = |address: &RedisAddress| address.connect_timeout_s.clamp(0.001, 86_400.0);
    one_s(address) + address.alternates.iter().map(one_s).sum::<f64>()
}

/// Connects to the address or the first of its alternates that lets us in, and introduces ourselves. Each has
/// its own connect timeout.
pub(crate) fn open(address: &RedisAddress) -> Result<Opened> {
    let mut failure: Option<Error> = None;
    for candidate in std::iter::once(address).chain(&address.alternates) {
        match open_one(candidate) {
            Ok(opened) => return Ok(opened),
            Err(error) => {
                failure = Some(match failure {
                    None => error,
                    // The first server's word decides what kind of failure it is.
                    Some(first) => Error::new(first.kind(), format!("{}; {}", first.message(), error.message())),
                });
            }
        }
    }
    Err(failure.unwrap_or_else(|| Error::new(ErrorKind::Internal, "an address without servers")))
}

fn open_one(address: &RedisAddress) -> Result<Opened> {
    let deadline = Instant::now() + Duration::from_secs_f64(address.connect_timeout_s.clamp(0.001, 86_400.0));
    let (socket, primary) = match &address.sentinel {
        None => (connect(address, deadline)?, None),
        Some(settings) => {
            let primary = sentinel::find_primary(settings, deadline)?;
            let place = RedisAddress { host: primary.host.clone(), port: primary.port, ..address.clone() };
            // A machine that went away would take the whole time; who asks again soon need not wait for it.
            let tcp_deadline = deadline.min(Instant::now() + sentinel::PRIMARY_PATIENCE);
            (connect_within(&place, tcp_deadline, deadline)?, Some(primary))
        }
    };
    let mut conversation = Conversation { socket, deadline };
    let mut info = conversation.introduce(address)?;
    if let Some(primary) = &primary {
        conversation.require_primary(primary)?;
    }
    info.local_address = conversation.socket.tcp().and_then(|stream| stream.local_addr().ok());
    Ok(Opened { socket: conversation.socket, info, primary })
}

/// Connects, TLS included.
pub(crate) fn connect(address: &RedisAddress, deadline: Instant) -> Result<RawSocket> {
    connect_within(address, deadline, deadline)
}

fn connect_within(address: &RedisAddress, tcp_deadline: Instant, deadline: Instant) -> Result<RawSocket> {
    if let Some(path) = &address.unix_path {
        let stream = UnixStream::connect(path).map_err(|error| Error::from(error).context(path))?;
        return Ok(RawSocket::Unix(stream));
    }
    let (host, tls) = (address.host.as_str(), address.tls.as_ref());
    dial(&Place { host, port: address.port, keepalive: address.keepalive, tls }, tcp_deadline, deadline)
}

/// Commands and answers, one at a time.
pub(crate) struct Conversation {
    pub(crate) socket: RawSocket,
    pub(crate) deadline: Instant,
}

impl Conversation {
    fn introduce(&mut self, address: &RedisAddress) -> Result<ServerInfo> {
        let credentials = credentials(address)?;
        let info = match self.hello(&credentials)? {
            Some(info) => info,
            None => self.introduce_resp2(&credentials)?,
        };
        if address.database != 0 {
            self.expect_ok(&[b"SELECT", address.database.to_string().as_bytes()], "SELECT")?;
        }
        if let Some(name) = &address.client_name {
            // A name is a courtesy to people; a server that refuses it is as good as any.
            self.ask(&[b"CLIENT", b"SETNAME", name.as_bytes()])?;
        }
        Ok(info)
    }

    /// RESP3 and authentication in one command; `None` where the server or a proxy does not know it.
    fn hello(&mut self, credentials: &Credentials) -> Result<Option<ServerInfo>> {
        let mut arguments: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = &credentials.password {
            let user = credentials.username.as_deref().unwrap_or("default");
            arguments.extend([b"AUTH".as_slice(), user.as_bytes(), password.as_bytes()]);
        }
        let answer = self.ask(&arguments)?;
        if let Frame::Error(line) = &answer {
            // A server that hides HELLO may ask for a password before it says that it does not know the command; if
            // it is the password that is missing, the older way says so too.
            let codes = ["NOPROTO", "NOPERM", "NOAUTH", "ERR unknown"];
            let refused = codes.iter().any(|code| line.starts_with(code));
            return if refused { Ok(None) } else { Err(classify(line)) };
        }
        let version = answer.get(b"version").and_then(Frame::as_str).map(parse_version).unwrap_or_default();
        let client_id = answer.get(b"id").and_then(Frame::as_integer);
        let resp3 = answer.get(b"proto").and_then(Frame::as_integer) == Some(3);
        Ok(Some(ServerInfo { version, resp3, client_id, local_address: None }))
    }

    fn introduce_resp2(&mut self, credentials: &Credentials) -> Result<ServerInfo> {
        self.authenticate(credentials)?;
        let answer = self.ask(&[b"INFO", b"server"])?;
        if let Frame::Error(line) = &answer
            && classify(line).kind() == ErrorKind::Authentication
        {
            return Err(classify(line));
        }
        let version = answer
            .as_str()
            .and_then(|text| text.lines().find_map(|line| line.strip_prefix("redis_version:")))
            .map(parse_version)
            .unwrap_or_default();
        let client_id = self.ask(&[b"CLIENT", b"ID"])?.as_integer();
        Ok(ServerInfo { version, resp3: false, client_id, local_address: None })
    }

    /// AUTH, if there is a password.
    pub(crate) fn authenticate(&mut self, credentials: &Credentials) -> Result<()> {
        match (&credentials.username, &credentials.password) {
            (Some(user), Some(password)) => self.expect_ok(&[b"AUTH", user.as_bytes(), password.as_bytes()], "AUTH"),
            (None, Some(password)) => self.expect_ok(&[b"AUTH", password.as_bytes()], "AUTH"),
            (_, None) => Ok(()),
        }
    }

    /// Sentinel may know less than the server itself.
    fn require_primary(&mut self, primary: &sentinel::Primary) -> Result<()> {
        let answer = self.ask(&[b"ROLE"])?;
        let role = match &answer {
            Frame::Array(items) => items.first().and_then(Frame::as_str),
            // Not allowed to ask: then Sentinel's word has to do.
            _ => return Ok(()),
        };
        if role == Some("master") {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Connection, format!("{primary} is no primary (any more)")))
    }

    fn expect_ok(&mut self, arguments: &[&[u8]], name: &str) -> Result<()> {
        match self.ask(arguments)? {
            Frame::Error(line) => Err(classify(&line).context(name)),
            _ => Ok(()),
        }
    }

    /// Asks and waits for the answer, which may be an error's.
    pub(crate) fn ask(&mut self, arguments: &[&[u8]]) -> Result<Frame> {
        let mut bytes = Vec::with_capacity(128);
        write_command(&mut bytes, arguments);
        self.socket.set_timeout(Some(remaining(self.deadline)?))?;
        self.socket.write_all(&bytes)?;
        self.socket.flush()?;
        bytes.clear();
        let mut piece = [0; 4096];
        loop {
            match decode(&bytes, &Limits::default())? {
                Some((Frame::Push(_), used)) => drop(bytes.drain(..used)),
                Some((frame, _)) => return Ok(frame),
                None => {
                    self.socket.set_timeout(Some(remaining(self.deadline)?))?;
                    match self.socket.read(&mut piece)? {
                        0 => return Err(Error::new(ErrorKind::Connection, "redis closed the connection")),
                        size => bytes.extend_from_slice(&piece[..size]),
                    }
                }
            }
        }
    }
}

/// The address's own user and password, or what its source gives now.
pub(crate) fn credentials(address: &RedisAddress) -> Result<Credentials> {
    match &address.credential_source {
        Some(source) => source.credentials(),
        None => Ok(Credentials { username: address.username.clone(), password: address.password.clone() }),
    }
}

fn parse_version(text: &str) -> (u32, u32, u32) {
    let mut parts = text.trim().split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
