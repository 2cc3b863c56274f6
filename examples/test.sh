#!/bin/sh
# Tests the examples in C and C++ as their authors would: by hot_testing.h, without a daemon. build.sh comes first.
set -eu
cd "$(dirname "$0")/.."
out="${CARGO_TARGET_DIR:-target}/release"

# try COMPILER MODULE SOURCE [OPTION]...
try() {
    compiler=$1 module=$2 source=$3
    shift 3
    "$compiler" -g -Wall -Wextra -Wpedantic -Werror -I module/include "$@" "$source" -o "$out/$module-test" -pthread -ldl
    "$out/$module-test" "$out/$module.so"
}
try "${CC:-cc}" hello-c examples/hello-c/test.c
if [ -f "$out/hello-cpp.so" ]; then
    try "${CXX:-c++}" hello-cpp examples/hello-cpp/test.cpp -std=c++17
else
    echo "hello-cpp was not tested: it was not built, for want of a C++ compiler" >&2
fi
