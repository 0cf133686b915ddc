//! The probes, for the parent's Python side.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::engine::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::probes::figures::Gauge;
use crate::probes::{Figures, ProbeServer, bind};

/// The probes of one engine, started or not.
#[derive(Debug, Default)]
pub(super) struct Probes(Mutex<Option<ProbeServer>>, OnceLock<Arc<Figures>>);

impl Probes {
    /// Starts them; returns where they listen.
    pub(super) fn start(&self, shared: &Shared, address: &str, task_names: Vec<String>) -> Result<String> {
        let mut server = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if server.is_some() {
            return Err(Error::new(ErrorKind::Config, "the probes were started before"));
        }
        let listener = bind(address)?;
        let figures = Arc::new(Figures::new(task_names.into_iter()));
        let _ = shared.figures.set(Arc::clone(&figures));
        let started = ProbeServer::start(listener, Arc::clone(&figures), super::engine::leave_signals_to_python)?;
        let address = started.address.to_string();
        let _ = self.1.set(figures);
        *server = Some(started);
        Ok(address)
    }

    /// Replaces the gauges: (name, label, label's value, value).
    pub(super) fn set_gauges(&self, gauges: Vec<(String, String, String, f64)>) {
        if let Some(figures) = self.1.get() {
            let made = gauges.into_iter().map(|(name, label, label_value, value)| Gauge {
                name,
                label: (label, label_value),
                value,
            });
            figures.set_gauges(made.collect());
        }
    }
}
