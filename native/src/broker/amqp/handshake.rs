//! Opens a connection to RabbitMQ; runs blocking, on a thread of its own or the publisher's.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::config::amqp::AmqpAddress;
use crate::error::{Error, ErrorKind, Result};
use crate::net::dialing::{Place, dial, remaining};
use crate::net::raw_socket::RawSocket;
use crate::net::settings::Credentials;
use crate::wire::amqp::{
    FieldTable, FieldValue, METHOD, Method, PROTOCOL_HEADER, decode_frame, decode_method, put_long_string, write_open,
    write_start_ok, write_tune_ok,
};

/// Largest frame that we take; RabbitMQ's own default.
const FRAME_MAX: u32 = 131_072;
/// Smallest maximum that a server may ask for.
const FRAME_MIN: u32 = 4096;

/// What the server said about itself, and what was agreed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ServerInfo {
    /// Major, minor, patch.
    pub(crate) version: (u32, u32, u32),
    /// Largest frame in both directions.
    pub(crate) frame_max: u32,
    /// Seconds between signs of life; 0 is off.
    pub(crate) heartbeat_s: u16,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The socket, blocking, without time limits.
    pub(crate) socket: RawSocket,
    /// The server.
    pub(crate) info: ServerInfo,
    /// What came after the handshake.
    pub(crate) unread: Vec<u8>,
}

/// Connects and introduces ourselves, all within the address's connect timeout.
pub(crate) fn open(address: &AmqpAddress) -> Result<Opened> {
    let limit = Duration::from_secs_f64(address.connect_timeout_s.clamp(0.001, 86_400.0));
    let deadline = Instant::now() + limit;
    // Heartbeats say when a server is gone.
    let place = Place { host: &address.host, port: address.port, keepalive: false, tls: address.tls.as_ref() };
    let socket = dial(&place, deadline, deadline)?;
    let mut conversation = Conversation { socket, deadline, input: Vec::new(), consumed: 0 };
    let info = conversation.introduce(address)?;
    let Conversation { socket, mut input, consumed, .. } = conversation;
    input.drain(..consumed);
    socket.set_timeout(None)?;
    Ok(Opened { socket, info, unread: input })
}

struct Conversation {
    socket: RawSocket,
    deadline: Instant,
    input: Vec<u8>,
    consumed: usize,
}

impl Conversation {
    fn introduce(&mut self, address: &AmqpAddress) -> Result<ServerInfo> {
        self.send(PROTOCOL_HEADER)?;
        let credentials = credentials(address)?;
        let mut info = ServerInfo::default();
        let mut answer = Vec::new();
        self.receive(|method| match method {
            Method::Start { properties, mechanisms } => {
                info.version = version_of(&properties);
                start_ok(address, &credentials, mechanisms, &mut answer)
            }
            other => Err(unexpected(&other)),
        })?;
        self.send(&answer)?;
        answer.clear();
        self.receive(|method| match method {
            Method::Tune { channel_max, frame_max, heartbeat_s } => {
                if frame_max != 0 && frame_max < FRAME_MIN {
                    let text = format!("amqp: the server asks for frames of at most {frame_max} bytes");
                    return Err(Error::new(ErrorKind::Protocol, text));
                }
                info.frame_max = if frame_max == 0 { FRAME_MAX } else { frame_max.min(FRAME_MAX) };
                // Either side's zero is off; else the smaller of the two.
                info.heartbeat_s = heartbeat_s.min(address.heartbeat_s);
                write_tune_ok(&mut answer, channel_max, info.frame_max, info.heartbeat_s);
                write_open(&mut answer, &address.virtual_host);
                Ok(())
            }
            Method::Secure => Err(Error::new(ErrorKind::Authentication, "the server asks for more than the password")),
            other => Err(unexpected(&other)),
        })?;
        self.send(&answer)?;
        self.receive(|method| match method {
            Method::OpenOk => Ok(()),
            other => Err(unexpected(&other)),
        })?;
        Ok(info)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.set_timeout(Some(remaining(self.deadline)?))?;
        self.socket.write_all(bytes)?;
        Ok(self.socket.flush()?)
    }

    /// Reads one method; a close of the server becomes its error.
    fn receive(&mut self, take: impl FnOnce(Method<'_>) -> Result<()>) -> Result<()> {
        let mut piece = [0; 4096];
        loop {
            if let Some((frame, used)) = decode_frame(&self.input[self.consumed..], FRAME_MAX)? {
                self.consumed += used;
                if frame.kind != METHOD {
                    continue;
                }
                return match decode_method(frame.payload)? {
                    Method::Close(farewell) => Err(farewell.to_error()),
                    method => take(method),
                };
            }
            self.socket.set_timeout(Some(remaining(self.deadline)?))?;
            match self.socket.read(&mut piece)? {
                0 => return Err(Error::new(ErrorKind::Connection, "Server unexpectedly closed connection")),
                size => self.input.extend_from_slice(&piece[..size]),
            }
        }
    }
}

fn unexpected(method: &Method<'_>) -> Error {
    Error::new(ErrorKind::Protocol, format!("amqp: unexpected while connecting: {method:?}"))
}

fn version_of(properties: &FieldTable) -> (u32, u32, u32) {
    let text = properties.get("version").and_then(FieldValue::as_text).unwrap_or_default();
    let mut parts = text.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The address's own user and password, or what its source gives now.
fn credentials(address: &AmqpAddress) -> Result<(String, String)> {
    let Some(source) = &address.credential_source else {
        return Ok((address.username.clone(), address.password.clone()));
    };
    let Credentials { username, password } = source.credentials()?;
    Ok((username.unwrap_or_else(|| address.username.clone()), password.unwrap_or_default()))
}

fn start_ok(
    address: &AmqpAddress,
    (username, password): &(String, String),
    offered: &[u8],
    out: &mut Vec<u8>,
) -> Result<()> {
    let method = address.login_method.as_str();
    if !offered.split(|byte| *byte == b' ').any(|name| name == method.as_bytes()) {
        let offered = String::from_utf8_lossy(offered).into_owned();
        let text = format!("the server does not accept the login method {method}, only {offered}");
        return Err(Error::new(ErrorKind::Authentication, text));
    }
    let mut response = Vec::new();
    match method {
        "PLAIN" => {
            response.push(0);
            response.extend_from_slice(username.as_bytes());
            response.push(0);
            response.extend_from_slice(password.as_bytes());
        }
        "AMQPLAIN" => {
            for (key, value) in [("LOGIN", username), ("PASSWORD", password)] {
                response.push(key.len() as u8);
                response.extend_from_slice(key.as_bytes());
                response.push(b'S');
                put_long_string(&mut response, value.as_bytes());
            }
        }
        // The certificate says who we are.
        _ => {}
    }
    write_start_ok(out, &client_properties(&address.connection_name), method, &response);
    Ok(())
}

fn client_properties(connection_name: &str) -> FieldTable {
    let text = |text: &str| FieldValue::Text(text.as_bytes().to_vec());
    let mut capabilities = FieldTable::default();
    for name in [
        "publisher_confirms",
        "consumer_cancel_notify",
        "basic.nack",
        "connection.blocked",
        "authentication_failure_close",
        "exchange_exchange_bindings",
    ] {
        capabilities.set(name, FieldValue::Bool(true));
    }
    let mut properties = FieldTable::default();
    properties.set("product", text("pyworker"));
    properties.set("version", text(env!("CARGO_PKG_VERSION")));
    properties.set("connection_name", text(connection_name));
    properties.set("capabilities", FieldValue::Table(capabilities));
    properties
}
