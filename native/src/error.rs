//! One error type for the whole core: a kind that decides what happens next, and a text for people.

use std::fmt;

/// What went wrong, as far as the code that handles it has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The peer cannot be reached or the connection broke.
    Connection,
    /// The peer did not answer within the configured time.
    Timeout,
    /// The peer refused our credentials.
    Authentication,
    /// The peer answered with something its protocol does not allow.
    Protocol,
    /// The server is up but refuses the command for now: out of memory, loading, read-only, busy.
    ServerBusy,
    /// The server refuses the command for good: unknown command, no permission, wrong type of key.
    ServerRefused,
    /// A message cannot be decoded; the text names the part.
    Malformed,
    /// Something exceeds a configured bound.
    TooLarge,
    /// A setting or option is not usable; the text names it.
    Config,
    /// The operating system refused a resource.
    Resource,
    /// A state that our own invariants exclude: a bug.
    Internal,
}

impl ErrorKind {
    /// Every kind, for tests that must cover them all.
    pub const ALL: [ErrorKind; 11] = [
        ErrorKind::Connection,
        ErrorKind::Timeout,
        ErrorKind::Authentication,
        ErrorKind::Protocol,
        ErrorKind::ServerBusy,
        ErrorKind::ServerRefused,
        ErrorKind::Malformed,
        ErrorKind::TooLarge,
        ErrorKind::Config,
        ErrorKind::Resource,
        ErrorKind::Internal,
    ];

    /// Whether the same operation may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            ErrorKind::Connection
            | ErrorKind::Timeout
            | ErrorKind::Protocol
            | ErrorKind::ServerBusy
            | ErrorKind::Resource => true,
            ErrorKind::Authentication
            | ErrorKind::ServerRefused
            | ErrorKind::Malformed
            | ErrorKind::TooLarge
            | ErrorKind::Config
            | ErrorKind::Internal => false,
        }
    }

    /// The name under which Python sees this kind.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Connection => "connection",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Authentication => "authentication",
            ErrorKind::Protocol => "protocol",
            ErrorKind::ServerBusy => "server_busy",
            ErrorKind::ServerRefused => "server_refused",
            ErrorKind::Malformed => "malformed",
            ErrorKind::TooLarge => "too_large",
            ErrorKind::Config => "config",
            ErrorKind::Resource => "resource",
            ErrorKind::Internal => "internal",
        }
    }
}

/// An error of the core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// The result type of the core.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error of a kind with a text that names what was wrong and where.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The text for people, without the kind.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Puts what was being done in front of the text. A refused password keeps the server's words alone:
    /// people know and search for them.
    #[must_use]
    pub fn context(mut self, doing: &str) -> Self {
        if self.kind == ErrorKind::Authentication {
            return self;
        }
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// Whether the same operation may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind.is_retryable()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::TimedOut | Io::WouldBlock => ErrorKind::Timeout,
            Io::OutOfMemory | Io::StorageFull => ErrorKind::Resource,
            _ => ErrorKind::Connection,
        };
        // A socket's time limit ends as "Resource temporarily unavailable", which tells nobody what happened.
        let text = if error.kind() == Io::WouldBlock { "timed out".to_owned() } else { error.to_string() };
        Self::new(kind, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_name() {
        let mut names: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn context_keeps_the_kind() {
        let error = Error::new(ErrorKind::Timeout, "no answer in 5 s").context("reading from redis");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(error.to_string(), "reading from redis: no answer in 5 s");
        assert!(error.is_retryable());
    }
}
