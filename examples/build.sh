#!/bin/sh
# Builds the example modules into target/release: greeter-1.0.0.so, greeter-1.1.0.so, greeter-1.2.0.so, hello-c.so, and
# hello-cpp.so where there is a C++ compiler. With --all also async-rust.so and axum-app.so, which take a while: their
# dependencies are many.
set -eu
cd "$(dirname "$0")/.."
out="${CARGO_TARGET_DIR:-target}/release"
mkdir -p "$out"

# To a name beside it and then a rename: whoever has the old file open or mapped keeps it whole.
put() {
    cp "$1" "$2.new"
    mv "$2.new" "$2"
}

greeter() {
    cargo build --locked --release -p greeter --features "$2"
    put "$out/libgreeter.so" "$out/greeter-$1.so"
}
greeter 1.0.0 ""
greeter 1.1.0 v1-1
greeter 1.2.0 v1-2

# native COMPILER SOURCE MODULE [OPTION]...
native() {
    compiler=$1 source=$2 module=$3
    shift 3
    "$compiler" -shared -fPIC -O2 -Wall -Wextra -Wpedantic -Werror -I module/include "$@" "$source" -o "$out/$module.new"
    mv "$out/$module.new" "$out/$module"
}
native "${CC:-cc}" examples/hello-c/hello.c hello-c.so

cxx="${CXX:-c++}"
if command -v "$cxx" >/dev/null 2>&1; then
    # With its own copy of the C++ library where the compiler has one: then a node needs none, nor the same one.
    own=
    case $("$cxx" -print-file-name=libstdc++.a) in
    /*) own="-static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL" ;;
    esac
    # shellcheck disable=SC2086 # one word per option
    native "$cxx" examples/hello-cpp/hello.cpp hello-cpp.so -std=c++17 $own
else
    rm -f "$out/hello-cpp.so"
    echo "hello-cpp.so was not built: no C++ compiler ($cxx) was found; install g++ or clang++, then run this again" >&2
fi

if [ "${1-}" = --all ]; then
    cargo build --locked --release -p async-rust -p axum-app --lib
    put "$out/libasync_rust.so" "$out/async-rust.so"
    put "$out/libaxum_app.so" "$out/axum-app.so"
fi
