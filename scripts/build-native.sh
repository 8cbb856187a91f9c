#!/bin/sh
# Builds what is not TypeScript: the native addon, build/tsfs_native.node, the one for digests, build/tsfs_digest.node, and the
# guardian, build/tsfs-guardian. Does nothing when they are newer than their sources.
# SANITIZE=address|thread builds build/tsfs_native.$SANITIZE.node and so on instead, for tests under a sanitizer.
set -eu
cd "$(dirname "$0")/.."

headers=node_modules/node-api-headers/include
sanitize=${SANITIZE:-}
addon=build/tsfs_native${sanitize:+.$sanitize}.node
digest=build/tsfs_digest${sanitize:+.$sanitize}.node
guardian=build/tsfs-guardian${sanitize:+.$sanitize}

if [ -f "$addon" ] && [ -f "$digest" ] && [ -f "$guardian" ] &&
  [ -z "$(find native scripts/build-native.sh -newer "$addon" | head -n 1)" ]; then
  exit 0
fi
compiler=${CXX:-g++}
if ! command -v "$compiler" >/dev/null 2>&1; then
  echo "tsfs: $compiler was not found. Install a C++17 compiler (Debian, Ubuntu: apt-get install g++)." >&2
  exit 1
fi
if [ -n "$sanitize" ]; then
  runtime=$([ "$sanitize" = thread ] && echo libtsan.so || echo libasan.so)
  # A compiler that does not have the file prints the bare name.
  if [ "$("$compiler" -print-file-name="$runtime")" = "$runtime" ]; then
    echo "tsfs: $compiler has no $runtime. Install it (Debian, Ubuntu: it comes with apt-get install g++; Fedora: dnf install ${runtime%.so})." >&2
    exit 1
  fi
fi
if [ ! -f "$headers/node_api.h" ]; then
  echo "tsfs: $headers is missing. Run npm install first." >&2
  exit 1
fi

mkdir -p build
partial=build/partial.$$
trap 'rm -f "$partial"' EXIT
echo "building $guardian"
"$compiler" -x c -std=gnu11 -O2 -g -Wall -Wextra -Werror -pthread \
  ${sanitize:+-fsanitize=$sanitize} native/guardian.c -Wl,--as-needed -o "$partial"
mv "$partial" "$guardian"
# NAPI_VERSION 8: external array buffers, asynchronous work and thread-safe functions are all in it.
build_addon() {
  addon_file=$1
  shift
  echo "building $addon_file"
  "$compiler" -std=c++17 -O2 -g -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -pthread \
    -DNAPI_VERSION=8 ${sanitize:+-fsanitize=$sanitize} -isystem "$headers" "$@" -o "$partial"
  mv "$partial" "$addon_file"
}
build_addon "$digest" native/digest/*.cpp
# Last: its age tells whether all of this has to be built.
build_addon "$addon" native/*.cpp
