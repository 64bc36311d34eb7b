#!/bin/sh
# SPDX-License-Identifier: MIT
#
# A client under `userkvm run` with a hub of its own and one simulated disk: usage: with_hub.sh USERKVM PROGRAM [ARG...]
# Replay: tests/vdpa/with_hub.sh build/userkvm build/tests/vdpa/vdpa_vhost_client
set -u
userkvm=$(realpath "$1")
shift
tmp=$(mktemp -d)
XDG_RUNTIME_DIR=$tmp
export XDG_RUNTIME_DIR
"$userkvm" vdpa hub --idle 0 &
hub=$!
trap 'kill $hub; rm -rf "$tmp"' EXIT
"$userkvm" vdpa dev add name disk mgmtdev vdpasim_blk || exit 1
"$userkvm" run -- "$@"
