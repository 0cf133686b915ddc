# Functions that the scripts share; sourced from the root of the tree.
VENV=${VENV:-.venv}
MINIMUM_RUST=1.88
MINIMUM_PYTHON=3.10

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# at_least MINIMUM VERSION
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

check_python() {
    command -v "$1" >/dev/null || die "$1 not found: install Python $MINIMUM_PYTHON or newer, or name one with make PYTHON=/path/to/python3"
    local version
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    at_least "$MINIMUM_PYTHON" "$version" || die "$1 is Python $version; $MINIMUM_PYTHON or newer is needed: make PYTHON=/path/to/python3"
}

check_rust() {
    # rustup's own folder comes first: a distribution's older cargo may stand before it on PATH.
    if [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    fi
    command -v cargo >/dev/null || die "cargo not found: install Rust $MINIMUM_RUST or newer with rustup (its site says how), then open a new shell"
    local version
    version=$(rustc --version | cut -d ' ' -f 2)
    at_least "$MINIMUM_RUST" "${version%%-*}" || die "rustc is $version; Rust $MINIMUM_RUST or newer is needed: rustup update stable (a distribution's own rustc is often too old: $(command -v rustc))"
}

check_compiler() {
    command -v "${CC:-cc}" >/dev/null || die "no C compiler: install one (Debian: apt-get install build-essential)"
    "${PYTHON:-python3}" - <<'PY' || die "Python's headers are missing (Debian: apt-get install python3-dev)"
import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))
PY
}

# make_venv PYTHON FOLDER
make_venv() {
    "$1" -m venv "$2" 2>/dev/null && return
    rm -rf "$2"
    # Debian keeps venv's pip in a package of its own.
    as_root apt-get install -y -qq python3-venv >/dev/null 2>&1 || true
    "$1" -m venv "$2" || die "$1 cannot make virtual environments (Debian: apt-get install python3-venv)"
}

# make_overlay FOLDER PIP_ARGUMENTS: an environment with packages of its own; what it lacks is found in .venv, editable
# installs of it included. Left alone if it was made with the same words.
make_overlay() {
    local folder=$1 base own
    shift
    [ "$(cat "$folder/.packages" 2>/dev/null)" != "$*" ] || return 0
    say "installing $* into $folder"
    rm -rf "$folder"
    make_venv "$VENV/bin/python" "$folder"
    "$folder/bin/python" -m pip install -q --disable-pip-version-check "$@"
    # Only now: pip would weigh these packages against those of .venv.
    base=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    own=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    printf 'import site; site.addsitedir(%s)\n' "'$base'" >"$own/base.pth"
    printf '%s' "$*" >"$folder/.packages"
}

# Every Python to build or test wheels with, one a line; PYTHONS="3.10 /path/to/python" narrows or adds.
pythons() {
    if [ -n "${PYTHONS:-}" ]; then
        local name
        for name in $PYTHONS; do
            if [ -x "$name" ]; then echo "$name"; else find_python "$name"; fi
        done
        return
    fi
    local minor
    for minor in 10 11 12 13 14; do find_python "3.$minor"; done
}

# Puts them into `chosen`; ends the script if there is none, or if one that PYTHONS names is not here.
choose_pythons() {
    mapfile -t chosen < <(pythons)
    [ ${#chosen[@]} -gt 0 ] || die "no Python found: PYTHONS names some, as versions or paths"
    local named
    read -ra named <<<"${PYTHONS:-}"
    [ ${#named[@]} -le ${#chosen[@]} ] || die "not every Python of PYTHONS=\"$PYTHONS\" is here"
}

# The newest patch release of a version: the one on PATH, or pyenv's.
find_python() {
    local found
    found=$(command -v "python$1" || true)
    if [ -z "$found" ] || ! "$found" -c 'import venv, ensurepip' 2>/dev/null; then
        found=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python 2>/dev/null | sort -V | tail -n 1 || true)
    fi
    if [ -n "$found" ]; then echo "$found"; else say "no Python $1 here"; fi
}

# Runs a command as root if this user may without a password; fails otherwise.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

build_extension() {
    say "building the extension (release)"
    # An editable install by way of maturin: Python files are used from the tree, the extension is copied beside them.
    # Everything it needs is in the environment already.
    PATH="$PWD/$VENV/bin:$PATH" MATURIN_PEP517_ARGS="--locked" "$VENV/bin/python" -m pip install -q --disable-pip-version-check \
        --no-deps --no-build-isolation --editable .
}

# debian_root SUITE PACKAGES FOLDER: packages of another Debian suite and all they need, unpacked and not installed.
debian_root() {
    local suite=$1 packages=$2 root=$3 uri
    command -v apt-get >/dev/null || return 1
    uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | head -n 1)
    [ -n "$uri" ] || return 1
    mkdir -p "$root"/apt/{lists/partial,archives/partial} "$root/root"
    : >"$root/apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main" >"$root/apt/sources.list"
    local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$root/apt/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$root/apt/lists" -o "Dir::State::status=$root/apt/status"
        -o "Dir::Cache::archives=$root/apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o APT::Sandbox::User=root -o Debug::NoLocking=1)
    "${apt[@]}" update && "${apt[@]}" install -y --download-only --no-install-recommends $packages >/dev/null || return 1
    local archive
    for archive in "$root"/apt/archives/*.deb; do dpkg-deb -x "$archive" "$root/root"; done
    rm -rf "$root/apt"
}
