#!/bin/sh
# Runs a command as nobody in a mount namespace of its own, in which /dev/fuse is open to everybody as distributions have
# it. The machine's device node is not touched. Arguments: an empty directory, then the command.
set -eu
directory=$1
shift
exec unshare --mount --propagation private sh -euc '
  directory=$1
  shift
  mount -t tmpfs none "$directory"
  mknod -m 666 "$directory/fuse" c 10 229
  mount --bind "$directory/fuse" /dev/fuse
  exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
' sh "$directory" "$@"
