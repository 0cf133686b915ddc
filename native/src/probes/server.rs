//! The probes' thread: accepts, reads a line, answers, closes. Slow clients cost nobody anything.

use std::collections::HashMap;
use std::io::{ErrorKind as IoErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::clock::monotonic_ns;
use crate::error::{Error, ErrorKind, Result};
use crate::probes::figures::Figures;
use crate::probes::http::{REQUEST_BYTES_MAX, Request, parse, respond};
use crate::probes::text;
use crate::probes::turns::ask_for_short_turns;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_CLIENT: usize = 2;
/// More clients than this at a time are turned away.
const CLIENTS_MAX: usize = 64;
/// How long a client may take for its request and for taking the answer.
const CLIENT_TIME: Duration = Duration::from_secs(5);

/// Listens at an address such as `127.0.0.1:9808`; port 0 takes a free one.
pub fn bind(address: &str) -> Result<TcpListener> {
    let address: SocketAddr = address
        .parse()
        .map_err(|_| Error::new(ErrorKind::Config, format!("probes: {address:?} is no address like 127.0.0.1:9808")))?;
    TcpListener::bind(address).map_err(|error| Error::from(error).context(&format!("probes: listening at {address}")))
}

/// A running probes' thread; ends when this is dropped.
#[derive(Debug)]
pub struct ProbeServer {
    /// Where it listens.
    pub address: SocketAddr,
    waker: Waker,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ProbeServer {
    /// Starts answering from these figures.
    pub fn start(mut listener: TcpListener, figures: Arc<Figures>, prepare_thread: fn()) -> Result<Self> {
        let address = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let loop_is_over = Arc::clone(&is_over);
        let thread = std::thread::Builder::new().name("pyworker-probes".into()).spawn(move || {
            prepare_thread();
            ask_for_short_turns();
            let server = Server { poll, listener, figures, clients: HashMap::new(), next: FIRST_CLIENT };
            // The poller's own failure ends the probes: that they do not answer is then the truth.
            let _ = server.run(&loop_is_over);
        })?;
        Ok(Self { address, waker, is_over, thread: Some(thread) })
    }
}

impl Drop for ProbeServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    /// The answer that is left to send; empty while the request is read.
    answer: Vec<u8>,
    until: Instant,
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    figures: Arc<Figures>,
    clients: HashMap<Token, Client>,
    next: usize,
}

impl Server {
    fn run(mut self, is_over: &AtomicBool) -> std::io::Result<()> {
        let mut events = Events::with_capacity(CLIENTS_MAX);
        while !is_over.load(Ordering::Acquire) {
            let timeout = (!self.clients.is_empty()).then_some(CLIENT_TIME);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == IoErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    token => self.serve(token),
                }
            }
            let now = Instant::now();
            self.clients.retain(|_, client| client.until > now);
        }
        Ok(())
    }

    fn accept(&mut self) {
        // Until there is none: an error of one that left again concerns nobody else.
        while let Ok((mut stream, _)) = self.listener.accept() {
            if self.clients.len() >= CLIENTS_MAX {
                continue;
            }
            let token = Token(self.next);
            self.next = self.next.wrapping_add(1).max(FIRST_CLIENT);
            if self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_ok() {
                let until = Instant::now() + CLIENT_TIME;
                self.clients.insert(token, Client { stream, received: Vec::new(), answer: Vec::new(), until });
                self.serve(token);
            }
        }
    }

    fn serve(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let is_waiting = if client.answer.is_empty() {
            match client.read() {
                Some(request) => {
                    client.answer = answer(&self.figures, request);
                    client.write()
                }
                None => client.received.len() <= REQUEST_BYTES_MAX && !client.until.elapsed().gt(&Duration::ZERO),
            }
        } else {
            client.write()
        };
        if !is_waiting {
            self.clients.remove(&token);
        }
    }
}

/// What a client asked for, kept beyond its buffer.
enum Asked {
    Page(String, bool),
    Other,
}

impl Client {
    /// Reads what is there; `None` if the request is not whole. An ended stream is given up by its time.
    fn read(&mut self) -> Option<Asked> {
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.until = Instant::now() - Duration::from_millis(1);
                    break;
                }
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == IoErrorKind::Interrupted => {}
                Err(error) if error.kind() == IoErrorKind::WouldBlock => break,
                Err(_) => {
                    self.until = Instant::now() - Duration::from_millis(1);
                    break;
                }
            }
            if self.received.len() > REQUEST_BYTES_MAX {
                return Some(Asked::Other);
            }
        }
        parse(&self.received).map(|request| match request {
            Request::Get(path) => Asked::Page(path.to_owned(), true),
            Request::Head(path) => Asked::Page(path.to_owned(), false),
            Request::Other => Asked::Other,
        })
    }

    /// Sends what can be sent; whether some is left.
    fn write(&mut self) -> bool {
        while !self.answer.is_empty() {
            match self.stream.write(&self.answer) {
                Ok(0) => return false,
                Ok(count) => drop(self.answer.drain(..count)),
                Err(error) if error.kind() == IoErrorKind::Interrupted => {}
                Err(error) => return error.kind() == IoErrorKind::WouldBlock,
            }
        }
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        false
    }
}

fn answer(figures: &Figures, asked: Asked) -> Vec<u8> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let Asked::Page(path, has_content) = asked else {
        return respond("405 Method Not Allowed", PLAIN, "GET and HEAD only\n", true);
    };
    let now_ns = monotonic_ns();
    let (status, kind, content) = match path.as_str() {
        "/livez" if figures.is_alive(now_ns) => ("200 OK", PLAIN, "ok\n".to_owned()),
        "/livez" => ("503 Service Unavailable", PLAIN, "the engine does not move\n".to_owned()),
        "/readyz" => match figures.unready(now_ns) {
            None => ("200 OK", PLAIN, "ok\n".to_owned()),
            Some(cause) => ("503 Service Unavailable", PLAIN, format!("{cause}\n")),
        },
        "/metrics" => {
            let text = text::render(figures, figures.is_alive(now_ns), figures.unready(now_ns).is_none());
            ("200 OK", text::CONTENT_TYPE, text)
        }
        _ => ("404 Not Found", PLAIN, "/livez, /readyz and /metrics are here\n".to_owned()),
    };
    respond(status, kind, &content, has_content)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream as Plain;

    fn started() -> (ProbeServer, Arc<Figures>) {
        let figures = Arc::new(Figures::new(std::iter::empty()));
        let server = ProbeServer::start(bind("127.0.0.1:0").unwrap(), Arc::clone(&figures), || {}).unwrap();
        (server, figures)
    }

    fn get(server: &ProbeServer, request: &str) -> String {
        let mut stream = Plain::connect(server.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn pages_are_answered() {
        let (server, figures) = started();
        assert!(get(&server, "GET /livez HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nok\n"));
        assert!(get(&server, "GET /readyz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 503 "));
        figures.set_connected(true);
        let _ = figures.on_turn_over(1, true, true, true);
        assert!(get(&server, "GET /readyz HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(get(&server, "GET /metrics HTTP/1.1\r\n\r\n").contains("\npyworker_ready 1\n"));
        assert!(get(&server, "HEAD /metrics HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
        assert!(get(&server, "GET /else HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(get(&server, "PUT /livez HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(get(&server, &"x".repeat(REQUEST_BYTES_MAX + 1)).starts_with("HTTP/1.1 405 "));
    }

    #[test]
    fn a_client_that_says_nothing_keeps_nobody_waiting() {
        let (server, _figures) = started();
        let silent: Vec<Plain> = (0..8).map(|_| Plain::connect(server.address).unwrap()).collect();
        let mut slow = Plain::connect(server.address).unwrap();
        slow.write_all(b"GET /li").unwrap();
        assert!(get(&server, "GET /livez HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
        slow.write_all(b"vez HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        slow.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("ok\n"));
        drop(silent);
    }

    #[test]
    fn an_address_that_is_none_or_taken_is_named() {
        assert!(bind("nowhere").unwrap_err().to_string().contains("\"nowhere\" is no address"));
        let (server, _figures) = started();
        assert!(bind(&server.address.to_string()).unwrap_err().to_string().contains("listening at 127.0.0.1:"));
    }
}
