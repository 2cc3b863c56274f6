#!/bin/sh
# Builds the example modules into target/release: greeter-1.0.0.so, greeter-1.1.0.so, greeter-1.2.0.so and hello-c.so.
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

"${CC:-cc}" -shared -fPIC -O2 -Wall -Wextra -Werror -I module/include examples/hello-c/hello.c -o "$out/hello-c.so.new"
mv "$out/hello-c.so.new" "$out/hello-c.so"
