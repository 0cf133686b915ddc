//! Sentinel: which server is a group's primary, and whether it still is.
//!
//! The question is asked anew at every connection. Beside an open connection a thread asks once a second: a primary
//! that froze or was cut off does not close its connections, and nothing else would say that another one took
//! over. When it did, the thread shuts the socket down, which its owner sees as a lost connection.

use std::fmt;
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::handshake::{self, Conversation};
use crate::config::RedisAddress;
use crate::error::{Error, ErrorKind, Result};
use crate::net::settings::SentinelSettings;
use crate::wire::resp::Frame;

/// How long connecting to a primary may take, beyond which asking again is the better use of time.
pub(crate) const PRIMARY_PATIENCE: Duration = Duration::from_secs(1);
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// A group's primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Primary {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Primary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// Asks one Sentinel after the other until one knows a primary that works.
///
/// # Errors
///
/// `Connection` with every Sentinel's reason; the owner tries again.
pub(crate) fn find_primary(settings: &SentinelSettings, deadline: Instant) -> Result<Primary> {
    let mut reasons = Vec::new();
    for (index, node) in settings.nodes.iter().enumerate() {
        // What is left is shared with the Sentinels to come and the primary itself.
        let sharers = u32::try_from(settings.nodes.len() - index + 1).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / sharers;
        match ask_node(settings, node, share) {
            Ok(primary) => return Ok(primary),
            Err(error) => reasons.push(format!("{}:{}: {}", node.host, node.port, error.message())),
        }
    }
    let text = format!("Sentinel: no primary found for {:?} ({})", settings.master_name, reasons.join("; "));
    Err(Error::new(ErrorKind::Connection, text))
}

fn ask_node(settings: &SentinelSettings, node: &RedisAddress, share: Duration) -> Result<Primary> {
    let own = Duration::from_secs_f64(node.connect_timeout_s.clamp(0.001, 86_400.0));
    let deadline = Instant::now() + share.min(own);
    let mut conversation = Conversation { socket: handshake::connect(node, deadline)?, deadline };
    conversation.authenticate(&handshake::credentials(node)?)?;
    let answer = conversation.ask(&[b"SENTINEL", b"MASTER", settings.master_name.as_bytes()])?;
    judge(settings, &answer)
}

/// Reads the answer to `SENTINEL MASTER`, names and values in turn.
fn judge(settings: &SentinelSettings, answer: &Frame) -> Result<Primary> {
    let refused = |text: String| Error::new(ErrorKind::Connection, text);
    let items = match answer {
        Frame::Error(line) => return Err(refused(line.to_string())),
        Frame::Array(items) => items,
        other => return Err(other.unexpected("a primary's description")),
    };
    let field = |name: &str| {
        let mut pairs = items.chunks(2).filter(|pair| pair.len() == 2);
        pairs.find(|pair| pair[0].as_str() == Some(name)).and_then(|pair| pair[1].as_str())
    };
    let flags = field("flags").unwrap_or_default();
    if flags.split(',').any(|flag| flag == "s_down" || flag == "o_down") || !flags.split(',').any(|f| f == "master") {
        return Err(refused(format!("the primary is down ({flags})")));
    }
    let others: u32 = field("num-other-sentinels").and_then(|text| text.parse().ok()).unwrap_or(0);
    if others < settings.min_other_sentinels {
        return Err(refused(format!("it knows {others} other Sentinels, {} are wanted", settings.min_other_sentinels)));
    }
    match (field("ip"), field("port").and_then(|text| text.parse().ok())) {
        (Some(host), Some(port)) => Ok(Primary { host: host.to_owned(), port }),
        _ => Err(answer.unexpected("a primary's description")),
    }
}

/// Watches over one open connection until dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    socket: Arc<TcpStream>,
    /// Never used: that it is dropped ends the thread.
    _wanted: mpsc::Sender<()>,
    moved_to: Arc<Mutex<Option<Primary>>>,
}

impl Watch {
    /// Begins to watch; `socket` is a second handle of the connection's.
    pub(crate) fn start(settings: &SentinelSettings, primary: Primary, socket: TcpStream) -> Result<Self> {
        let (wanted, unwanted) = mpsc::channel();
        let watch = Self { socket: Arc::new(socket), _wanted: wanted, moved_to: Arc::default() };
        let (socket, moved_to) = (Arc::clone(&watch.socket), Arc::clone(&watch.moved_to));
        let settings = settings.clone();
        std::thread::Builder::new().name("pyworker-sentinel".into()).spawn(move || {
            if let Some(other) = watch_until_moved(&settings, &primary, &unwanted) {
                *moved_to.lock().unwrap_or_else(PoisonError::into_inner) = Some(other);
                // An error means that it is closed already.
                let _ = socket.shutdown(Shutdown::Both);
            }
        })?;
        Ok(watch)
    }

    /// Where the primary is now, if that is why the connection broke.
    pub(crate) fn moved_to(&self) -> Option<Primary> {
        self.moved_to.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread's handle would keep the connection open a little longer; what was written still leaves.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Asks once a second; a question that finds no answer says nothing.
fn watch_until_moved(settings: &SentinelSettings, primary: &Primary, unwanted: &mpsc::Receiver<()>) -> Option<Primary> {
    while unwanted.recv_timeout(WATCH_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let found = find_primary(settings, Instant::now() + WATCH_INTERVAL * 2);
        if let Ok(other) = found
            && other != *primary
        {
            return Some(other);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::wire::resp::{Limits, decode};

    fn settings(min_other_sentinels: u32) -> SentinelSettings {
        SentinelSettings { nodes: Vec::new(), master_name: "m".into(), min_other_sentinels }
    }

    fn answer(flags: &str, others: u32) -> Frame {
        let words = ["name", "m", "ip", "10.0.0.1", "port", "6390", "flags", flags, "num-other-sentinels"];
        let mut bytes = format!("*{}\r\n", words.len() + 1);
        for word in words.iter().map(ToString::to_string).chain([others.to_string()]) {
            bytes += &format!("${}\r\n{word}\r\n", word.len());
        }
        decode(bytes.as_bytes(), &Limits::default()).unwrap().unwrap().0
    }

    #[test]
    fn a_primary_that_is_up_is_found() {
        let found = judge(&settings(2), &answer("master", 2)).unwrap();
        assert_eq!(found, Primary { host: "10.0.0.1".into(), port: 6390 });
    }

    #[test]
    fn a_primary_that_is_down_or_hardly_known_is_not_believed() {
        for (flags, others) in [("s_down,master", 2), ("s_down,o_down,master", 2), ("slave", 2), ("master", 1)] {
            let error = judge(&settings(2), &answer(flags, others)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Connection, "{flags} {others}");
        }
        let unknown = Frame::Error("ERR No such master with that name".into());
        assert!(judge(&settings(0), &unknown).unwrap_err().message().contains("No such master"));
    }
}
