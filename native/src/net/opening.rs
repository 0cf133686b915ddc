//! A connection being opened on a short-lived thread, because names resolve and handshakes run blocking.

use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use mio::{Interest, Registry, Token};

use crate::clock::MonotonicNs;
use crate::error::{Error, ErrorKind, Result};

/// Grace for the thread beyond the connect timeout, which name resolution does not obey.
const GRACE: Duration = Duration::from_secs(1);

/// The thread's parcel, and the socket half that becomes readable when it is there.
#[derive(Debug)]
pub(crate) struct Opening<T> {
    parcel: mpsc::Receiver<Result<T>>,
    bell: mio::net::UnixStream,
    give_up_ns: MonotonicNs,
}

impl<T: Send + 'static> Opening<T> {
    /// Begins; `token` becomes ready when `poll` has something to say.
    ///
    /// # Errors
    ///
    /// No descriptor or thread is to be had.
    pub(crate) fn start(
        (registry, token): (&Registry, Token),
        purpose: &str,
        limit_s: f64,
        now_ns: MonotonicNs,
        open: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Self> {
        let (bell, ringer) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        let mut bell = mio::net::UnixStream::from_std(bell);
        let (sender, parcel) = mpsc::channel();
        std::thread::Builder::new().name(format!("pyworker-{purpose}")).spawn(move || {
            // Dropped last, also when the thread panics: the hang-up is the bell.
            let _ringer = ringer;
            // The receiver is gone when the connection was given up meanwhile; then the socket closes here.
            let _ = sender.send(open());
        })?;
        registry.register(&mut bell, token, Interest::READABLE)?;
        let limit = Duration::from_secs_f64(limit_s.clamp(0.001, 1e9)) + GRACE;
        Ok(Self { parcel, bell, give_up_ns: now_ns + limit.as_nanos() as MonotonicNs })
    }

    /// How it ended, if it has.
    pub(crate) fn poll(&self, now_ns: MonotonicNs) -> Option<Result<T>> {
        match self.parcel.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(mpsc::TryRecvError::Empty) if now_ns < self.give_up_ns => None,
            Err(mpsc::TryRecvError::Empty) => {
                Some(Err(Error::new(ErrorKind::Timeout, "no connection within the connect timeout")))
            }
            Err(mpsc::TryRecvError::Disconnected) => {
                Some(Err(Error::new(ErrorKind::Internal, "the opening thread ended without a result")))
            }
        }
    }

    /// Takes the bell off the poller.
    pub(crate) fn end(&mut self, registry: &Registry) {
        // Fails only if it never was registered, and then nothing is to do.
        let _ = registry.deregister(&mut self.bell);
    }

    /// When `poll` gives up.
    pub(crate) fn deadline_ns(&self) -> MonotonicNs {
        self.give_up_ns
    }
}
