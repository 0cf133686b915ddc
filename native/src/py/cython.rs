//! The Cython modules that `build.rs` linked into this extension.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

#[expect(unsafe_code, reason = "the entry point that Cython generates")]
unsafe extern "C" {
    fn PyInit__native_trace() -> *mut ffi::PyObject;
}

/// Makes the compiled modules importable under their names (`pyworker._native_trace`).
#[expect(unsafe_code, reason = "PEP 489: a module definition becomes a module with a spec of our making")]
pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let name = "pyworker._native_trace";
    let arguments = PyDict::new(py);
    arguments.set_item("name", name)?;
    arguments.set_item("loader", py.None())?;
    let spec = py.import("importlib.machinery")?.getattr("ModuleSpec")?.call((), Some(&arguments))?;
    // SAFETY: the interpreter is attached. Cython's entry point returns either a new module or, with
    // multi-phase initialisation (its default), a static definition; both cases are told apart as PEP 489
    // says, and errors leave a Python exception set.
    let compiled = unsafe {
        let object = PyInit__native_trace();
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        if ffi::PyObject_TypeCheck(object, &raw mut ffi::PyModuleDef_Type) == 0 {
            Bound::from_owned_ptr(py, object)
        } else {
            let definition = object.cast::<ffi::PyModuleDef>();
            let created = ffi::PyModule_FromDefAndSpec(definition, spec.as_ptr());
            if created.is_null() {
                return Err(PyErr::fetch(py));
            }
            let created = Bound::from_owned_ptr(py, created);
            if ffi::PyModule_ExecDef(created.as_ptr(), definition) != 0 {
                return Err(PyErr::fetch(py));
            }
            created
        }
    };
    py.import("sys")?.getattr("modules")?.set_item(name, compiled)
}
