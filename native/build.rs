//! Translates the Cython sources of the per-task path to C and links them into the extension.
//!
//! maturin ships exactly one shared object, so the Cython modules live inside `_native` and are
//! registered by `src/py/cython.rs` at import. Without the `python` feature nothing is built here.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sources, relative to the repository root, and the module name each becomes.
const CYTHON_SOURCES: &[(&str, &str)] = &[("pyworker/worker/trace.py", "trace")];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_PYTHON").is_none() {
        return;
    }
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".into())).join("..");
    let out = PathBuf::from(env::var("OUT_DIR").unwrap_or_else(|_| ".".into()));
    let python =
        env::var("PYO3_PYTHON").or_else(|_| env::var("PYTHON_SYS_EXECUTABLE")).unwrap_or_else(|_| "python3".into());
    println!("cargo:rerun-if-env-changed=PYO3_PYTHON");
    println!("cargo:rerun-if-env-changed=PYTHON_SYS_EXECUTABLE");

    let include = run(&python, &["-c", "import sysconfig; print(sysconfig.get_paths()['include'])"], &root);
    let mut build = cc::Build::new();
    build.include(include.trim()).opt_level(3).warnings(false).flag_if_supported("-fno-strict-aliasing");
    for (source, module) in CYTHON_SOURCES {
        build.file(translate(&python, &root.join(source), module, &out));
    }
    build.compile("pyworker_cython");
}

/// Translates one source to C. It is copied under its module's name first, because Cython finds the
/// declarations of `module.py` in `module.pxd` beside it and nowhere else.
fn translate(python: &str, source: &Path, module: &str, out: &Path) -> PathBuf {
    let package = out.join("cython").join("pyworker");
    let name = format!("_native_{module}");
    let copies = [(source.to_path_buf(), "py"), (source.with_extension("pxd"), "pxd")];
    let prepared =
        fs::create_dir_all(&package).and_then(|()| fs::write(package.join("__init__.py"), "")).and_then(|()| {
            copies.iter().try_for_each(|(from, extension)| {
                println!("cargo:rerun-if-changed={}", from.display());
                fs::copy(from, package.join(&name).with_extension(extension)).map(drop)
            })
        });
    if let Err(error) = prepared {
        fail(&format!("cannot prepare {}: {error}", source.display()));
    }
    let c_file = package.join(&name).with_extension("c");
    run(python, &["-m", "cython", "-3", &format!("pyworker/{name}.py")], &out.join("cython"));
    c_file
}

/// Runs a command of the build and returns what it printed; the build stops with its message on failure.
fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
    match Command::new(program).args(arguments).current_dir(directory).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => {
            fail(&format!("`{program} {}` failed:\n{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
        }
        Err(error) => fail(&format!("cannot run `{program}`: {error}")),
    }
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(1);
}
