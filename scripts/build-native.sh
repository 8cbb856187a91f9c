#!/bin/sh
# Builds the native addon: build/tsfs_native.node. Does nothing when it is newer than its sources.
# SANITIZE=address|thread builds build/tsfs_native.$SANITIZE.node instead, for tests under a sanitizer.
set -eu
cd "$(dirname "$0")/.."

headers=node_modules/node-api-headers/include
sanitize=${SANITIZE:-}
output=build/tsfs_native${sanitize:+.$sanitize}.node

if [ -f "$output" ] && [ -z "$(find native scripts/build-native.sh -newer "$output" | head -n 1)" ]; then
  exit 0
fi
compiler=${CXX:-g++}
if ! command -v "$compiler" >/dev/null 2>&1; then
  echo "tsfs: $compiler was not found. Install a C++17 compiler (Debian, Ubuntu: apt-get install g++)." >&2
  exit 1
fi
if [ ! -f "$headers/node_api.h" ]; then
  echo "tsfs: $headers is missing. Run npm install first." >&2
  exit 1
fi

mkdir -p build
partial=$output.$$
trap 'rm -f "$partial"' EXIT
echo "building $output"
# NAPI_VERSION 8: external array buffers, asynchronous work and thread-safe functions are all in it.
"$compiler" -std=c++17 -O2 -g -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -pthread \
  -DNAPI_VERSION=8 ${sanitize:+-fsanitize=$sanitize} -isystem "$headers" native/*.cpp -o "$partial"
mv "$partial" "$output"
