//! The only code that knows Python: the extension module `pyworker._native`.

mod child;
mod codec;
mod convert;
mod convert_amqp;
mod cython;
mod engine;
mod errors;
mod kombu;
mod probes;
mod publisher;
mod publisher_amqp;
mod redis_settings;
mod replies;
mod series;
mod sqlite;
mod subscription;

use pyo3::prelude::pymodule;

/// The extension module.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use super::child::ChildLink;
    #[pymodule_export]
    use super::codec::{build_envelope, compress, decompress, is_plain_json};
    use super::cython;
    #[pymodule_export]
    use super::engine::{Engine, PyNotice};
    #[pymodule_export]
    use super::errors::NativeError;
    #[pymodule_export]
    use super::kombu::KombuLink;
    #[pymodule_export]
    use super::publisher::RedisPublisher;
    #[pymodule_export]
    use super::publisher_amqp::{AmqpPublisher, build_amqp_message};
    #[pymodule_export]
    use super::replies::AmqpReplies;
    #[pymodule_export]
    use super::series::{fill_messages, uuids_of};
    #[pymodule_export]
    use super::sqlite::{PySqliteConsumer, SqliteFile};
    #[pymodule_export]
    use super::subscription::ResultSubscription;
    use pyo3::prelude::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        cython::register(module)
    }
}
