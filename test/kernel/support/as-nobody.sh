#!/bin/sh
# Runs a program of the tests as nobody in a mount namespace of its own, in which /dev/fuse is open to everybody as distributions have
# it (the machine's device node is not touched), and in which nobody finds Node and the checkout, wherever they are (a home directory
# is closed to others). Arguments: an empty directory, Node, the checkout, the program's path in it, the program's arguments.
set -eu
directory=$1
shift
exec unshare --mount --propagation private sh -euc '
  directory=$1 node=$2 checkout=$3 program=$4
  shift 4
  mount -t tmpfs -o mode=755 none "$directory"
  mknod -m 666 "$directory/fuse" c 10 229
  mount --bind "$directory/fuse" /dev/fuse
  touch "$directory/node"
  mount --bind "$node" "$directory/node"
  mkdir "$directory/checkout"
  mount --bind "$checkout" "$directory/checkout"
  cd /
  exec setpriv --reuid 65534 --regid 65534 --clear-groups "$directory/node" "$directory/checkout/$program" "$@"
' sh "$directory" "$@"
