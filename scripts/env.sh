# shellcheck shell=bash
# Sourced by every script here: where things are, and how a missing tool is brought in without touching the system.
#
# A tool that the machine has is used as it is. What is missing is built or unpacked below target/tools: nothing is
# installed, no service is started, no root is needed, and removing target/ removes it all.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}
tools=$target/tools
mkdir -p "$tools"
export PATH="$tools/bin:$PATH"

say() { printf '== %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# say_skipped FILE: what a run of nextest could not try, by its junit.xml. A test that can't be tried counts as passed. Each
# says so in a line of its own; the file has &, < and > as XML does.
say_skipped() {
    local skipped
    skipped=$(sed -n 's/^\(.*<system-err>\)\{0,1\}\(skipped: [^<]*\).*$/\2/p' "$1" 2>/dev/null | sort | uniq -c || true)
    [ -n "$skipped" ] || return 0
    say "skipped, for want of something on this machine"
    printf '%s\n' "$skipped"
}

# One script at a time changes target/tools.
lock_tools() { exec 9>"$tools/.lock"; flock -w 1800 9 || die "another script has held $tools/.lock for 30 minutes"; }
unlock_tools() { exec 9>&-; }

# need_cargo: the toolchain itself is the one thing that we do not bring.
need_cargo() {
    have cargo || die "cargo was not found; install Rust from https://rustup.rs, then run this again"
    have cc || die "no C compiler (cc) was found; install gcc or clang, then run this again"
}

# need_cargo_tool NAME VERSION: a cargo subcommand, from PATH or built once. The profile is light because these tools
# run for seconds: optimising and linking them would take longer than all their runs.
need_cargo_tool() {
    local name=$1 version=$2
    have "$name" && return
    lock_tools
    if ! have "$name"; then
        say "building $name $version into $tools (once)"
        env CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
            CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_TARGET_DIR="$tools/build" \
            cargo install --quiet --locked --root "$tools" "$name@$version"
        rm -rf "$tools/build"
    fi
    unlock_tools
}

need_nextest() { need_cargo_tool cargo-nextest 0.9.143; }
need_deny() { need_cargo_tool cargo-deny 0.20.2; }

# unpack PACKAGE...: packages of the distribution, and what they need that this machine lacks, downloaded and unpacked
# into target/tools/root. They are not installed: their maintainer scripts never run, so no service starts.
unpack() {
    if ! have apt-get || ! have dpkg-deb; then
        die "missing: $*; there is no apt-get here to bring it: install it, then run this again"
    fi
    say "unpacking $* into $tools/root (once)"
    local deb=$tools/deb state=$tools/apt file missing
    rm -rf "$deb" "$state"
    mkdir -p "$deb" "$tools/root" "$state/lists/partial" "$state/cache/archives/partial"
    local apt=(apt-get -qq -o Debug::NoLocking=1 -o APT::Sandbox::User=)
    # A fresh container has no package lists, and only root may write the system's: keep lists of our own then.
    if ! "${apt[@]}" --print-uris -y install "$@" >/dev/null 2>&1; then
        apt+=(-o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state/cache")
        "${apt[@]}" update || die "missing: $*; the package lists could not be fetched: install it, then run this again"
    fi
    missing=$("${apt[@]}" --print-uris --no-install-recommends -y install "$@" | sed -n "s/^'[^']*' \([^_ ]*\)_.*/\1/p")
    [ -n "$missing" ] || die "missing: $*, though apt-get takes it for installed: repair it, then run this again"
    # shellcheck disable=SC2086 # one word per package
    (cd "$deb" && "${apt[@]}" download $missing) || die "missing: $*; its packages could not be downloaded"
    for file in "$deb"/*.deb; do dpkg-deb -x "$file" "$tools/root"; done
    rm -rf "$deb" "$state"
}

# need_system COMMAND PACKAGE: a program of the distribution. An unpacked one is started by a wrapper that lets it find
# the libraries unpacked with it; nothing else sees that search path.
need_system() {
    local command=$1 libraries program
    shift
    have "$command" && return
    lock_tools
    if ! have "$command"; then
        unpack "$@"
        program=$tools/root/usr/bin/$command
        [ -x "$program" ] || program=$tools/root/usr/sbin/$command
        [ -x "$program" ] || die "$* was unpacked, yet has no $command in usr/bin or usr/sbin"
        libraries=$(compgen -G "$tools/root/usr/lib/*-linux-gnu" | paste -sd: || true)
        mkdir -p "$tools/bin"
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "'$libraries'" "'$program'" \
            >"$tools/bin/$command.new"
        chmod 0755 "$tools/bin/$command.new"
        mv "$tools/bin/$command.new" "$tools/bin/$command"
    fi
    unlock_tools
}

# need_protoc: sets protoc to one that has the well-known protos beside it.
need_protoc() {
    local protos=include/google/protobuf/descriptor.proto
    protoc=$(command -v protoc || true)
    [ -n "$protoc" ] && [ -f "$(dirname "$protoc")/../$protos" ] && return
    protoc=$tools/root/usr/bin/protoc
    lock_tools
    if ! [ -x "$protoc" ] || ! [ -f "$tools/root/usr/$protos" ]; then
        unpack protobuf-compiler libprotobuf-dev
        if ! [ -x "$protoc" ] || ! [ -f "$tools/root/usr/$protos" ]; then
            die "protobuf-compiler was unpacked, yet has no protoc"
        fi
    fi
    unlock_tools
    LD_LIBRARY_PATH=$(compgen -G "$tools/root/usr/lib/*-linux-gnu" | paste -sd:)
    export LD_LIBRARY_PATH
}

# need_valgrind: an unpacked one must be told where its tools lie; the tests clear the environment, so its wrapper does.
need_valgrind() {
    local wrapper=$tools/bin/valgrind
    need_system valgrind valgrind
    [ -f "$wrapper" ] || return 0
    lock_tools
    grep -q VALGRIND_LIB "$wrapper" ||
        sed -i "2s|^|VALGRIND_LIB='$tools/root/usr/libexec/valgrind' |" "$wrapper"
    unlock_tools
}

# need_python_client: a virtual environment with a gRPC client that knows nothing of this project. HOT_TEST_PYTHON is
# the interpreter that the tests start; without it the one test of that client says so and fails.
need_python_client() {
    local venv=$tools/venv wanted=$root/tests/python/requirements.txt pip=()
    export HOT_TEST_PYTHON=$venv/bin/python
    cmp -s "$wanted" "$venv/installed.txt" && return
    lock_tools
    if ! cmp -s "$wanted" "$venv/installed.txt"; then
        say "installing the Python gRPC client into $venv (once)"
        rm -rf "$venv"
        if python3 -c 'import ensurepip' 2>/dev/null; then
            python3 -m venv "$venv"
        else
            # Debian keeps pip out of python3; its wheel alone is enough.
            python3 -m venv --without-pip "$venv"
            compgen -G "$tools/root/usr/share/python-wheels/pip-*.whl" >/dev/null || unpack python3-pip-whl
            pip=("PYTHONPATH=$(compgen -G "$tools/root/usr/share/python-wheels/pip-*.whl" | head -n 1)")
        fi
        env "${pip[@]}" "$HOT_TEST_PYTHON" -m pip install --quiet --disable-pip-version-check -r "$wanted"
        cp "$wanted" "$venv/installed.txt"
    fi
    unlock_tools
}
