//! Where the engine's thread and the Python thread that owns kombu's connection meet.
//!
//! Both sides cross once per batch: the engine in [`Link::serve`], Python in [`Link::exchange`]. Demand is exact, because
//! both happen under one lock: what Python has handed over and the engine has not seen yet is taken off.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use mio::unix::pipe;

use crate::broker::{DeliveryTag, Settlement};
use crate::error::{Error, Result};

/// One message as Python took it from kombu. Headers and properties are JSON objects, the body is decoded from its
/// transport encoding but not decompressed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parcel {
    /// Python's name for it; never used twice.
    pub tag: DeliveryTag,
    /// Index of its queue.
    pub queue: u16,
    /// How often it was handed out before, as far as the transport tells.
    pub deliveries: u32,
    /// The headers object.
    pub headers: Vec<u8>,
    /// The properties object.
    pub properties: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
    /// The body's content type.
    pub content_type: String,
    /// The body's content encoding.
    pub content_encoding: String,
}

/// What Python tells the engine, in order.
#[derive(Debug)]
pub(super) enum News {
    /// Connected, declared, consuming.
    Connected,
    /// The connection is gone; when the next attempt is made, `None` for never.
    Disconnected(String, Option<f64>),
    /// Messages.
    Parcels(Vec<Parcel>),
    /// So many settlements, the oldest first, are done.
    Confirmed(usize),
    /// Something for the log.
    Degraded(String),
}

/// Begin or end consuming from a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueChange {
    /// Its index.
    pub index: u16,
    /// Its name.
    pub name: String,
    /// Whether to consume.
    pub is_active: bool,
}

/// What the engine wants of Python.
#[derive(Debug, Default, PartialEq)]
pub struct Wishes {
    /// How many messages it can take.
    pub demand: u32,
    /// Ends of deliveries, in order.
    pub settlements: Vec<(DeliveryTag, Settlement)>,
    /// Changes of queues, in order.
    pub queues: Vec<QueueChange>,
    /// The connection is to be closed.
    pub is_stopping: bool,
}

#[derive(Debug, Default)]
struct State {
    news: Vec<News>,
    wishes: Wishes,
    /// The demand that Python was told of last.
    told_demand: u32,
    engine_bell: Option<pipe::Sender>,
    /// A bell that was rung and not answered yet is not rung again.
    engine_is_rung: bool,
    python_is_rung: bool,
}

/// Shared by the broker and the Python thread. Holds no descriptor until one of them needs it, so that a link may be
/// made before the fork server is.
#[derive(Debug, Default)]
pub struct Link {
    state: Mutex<State>,
    python_bell: OnceLock<OwnedFd>,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so what it guards is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // -- the engine's side

    /// The engine listens from now on.
    pub(super) fn attach(&self, bell: pipe::Sender) -> Result<()> {
        self.bell()?;
        self.lock().engine_bell = Some(bell);
        Ok(())
    }

    /// Takes what Python said; `answer` says what is wanted then, beyond what it has just been given.
    pub(super) fn serve(&self, answer: impl FnOnce(Vec<News>, &mut Wishes)) {
        let mut state = self.lock();
        state.engine_is_rung = false;
        let news = std::mem::take(&mut state.news);
        answer(news, &mut state.wishes);
        let wishes = &state.wishes;
        let is_news = wishes.demand > state.told_demand
            || !wishes.settlements.is_empty()
            || !wishes.queues.is_empty()
            || wishes.is_stopping
            || (wishes.demand == 0) != (state.told_demand == 0);
        if is_news && !std::mem::replace(&mut state.python_is_rung, true) {
            drop(state);
            self.ring_python();
        }
    }

    #[expect(unsafe_code, reason = "write to an eventfd")]
    fn ring_python(&self) {
        let Some(bell) = self.python_bell.get() else { return };
        let one = 1u64;
        // SAFETY: eight bytes of a live integer; failure means the bell rings already.
        unsafe { libc::write(bell.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    // -- Python's side

    #[expect(unsafe_code, reason = "eventfd has no wrapper in std")]
    fn bell(&self) -> Result<RawFd> {
        if let Some(bell) = self.python_bell.get() {
            return Ok(bell.as_raw_fd());
        }
        // SAFETY: a plain system call; the descriptor is checked and owned.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(Error::from(std::io::Error::last_os_error()).context("making an event descriptor"));
        }
        // SAFETY: just made.
        let made = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(self.python_bell.get_or_init(|| made).as_raw_fd())
    }

    /// The descriptor that becomes readable when there are new wishes.
    ///
    /// # Errors
    ///
    /// `Resource` if there is none to be had.
    pub fn descriptor(&self) -> Result<RawFd> {
        self.bell()
    }

    fn tell(&self, news: impl IntoIterator<Item = News>) {
        let mut state = self.lock();
        let before = state.news.len();
        state.news.extend(news);
        if state.news.len() > before {
            Self::ring_engine(&mut state);
        }
    }

    fn ring_engine(state: &mut State) {
        if state.engine_is_rung {
            return;
        }
        if let Some(bell) = &mut state.engine_bell {
            // A full pipe rings as well.
            let _ = std::io::Write::write(bell, &[0]);
            state.engine_is_rung = true;
        }
    }

    /// Hands messages over, confirms settlements and takes what is wanted next.
    #[expect(unsafe_code, reason = "read from an eventfd")]
    pub fn exchange(&self, parcels: Vec<Parcel>, confirmed: usize) -> Wishes {
        if let Some(bell) = self.python_bell.get() {
            let mut count = 0u64;
            // SAFETY: eight bytes of a live integer; nothing to read means nothing rang.
            unsafe { libc::read(bell.as_raw_fd(), (&raw mut count).cast(), 8) };
        }
        let mut state = self.lock();
        state.python_is_rung = false;
        if confirmed > 0 || !parcels.is_empty() {
            let count = u32::try_from(parcels.len()).unwrap_or(u32::MAX);
            state.wishes.demand = state.wishes.demand.saturating_sub(count);
            if confirmed > 0 {
                state.news.push(News::Confirmed(confirmed));
            }
            if !parcels.is_empty() {
                state.news.push(News::Parcels(parcels));
            }
            Self::ring_engine(&mut state);
        }
        state.told_demand = state.wishes.demand;
        let wishes = &mut state.wishes;
        Wishes {
            demand: wishes.demand,
            settlements: std::mem::take(&mut wishes.settlements),
            queues: std::mem::take(&mut wishes.queues),
            is_stopping: wishes.is_stopping,
        }
    }

    /// Connected, declared, consuming.
    pub fn connected(&self) {
        self.tell([News::Connected]);
    }

    /// The connection could not be made or is gone: every delivery that came over it is void.
    pub fn disconnected(&self, text: String, retry_in_s: Option<f64>) {
        // Ends that were not taken cannot be told to anybody any more.
        self.lock().wishes.settlements.clear();
        self.tell([News::Disconnected(text, retry_in_s)]);
    }

    /// A line for the worker's log: something works less well than it could.
    pub fn degraded(&self, text: String) {
        self.tell([News::Degraded(text)]);
    }

    /// Waits until there are new wishes; false when the time is over or a signal came.
    ///
    /// # Errors
    ///
    /// `Resource` if there is no descriptor to be had.
    #[expect(unsafe_code, reason = "poll")]
    pub fn wait(&self, timeout_ms: i32) -> Result<bool> {
        let mut entry = libc::pollfd { fd: self.bell()?, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        Ok(unsafe { libc::poll(&mut entry, 1, timeout_ms) > 0 })
    }
}
