#!/bin/sh
# SPDX-License-Identifier: MIT
# A compiler at work in the guest: the objects and what the program says must be those of the host. TAP.
# usage: tests/e2e/compile.sh build/userkvm FILES [ENGINE...]
set -u
. "$(dirname "$0")/tap.sh"

userkvm=$1
files=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
root=${XDG_CACHE_HOME:-$HOME/.cache}/userkvm/cc/root
need_guest
"$here/../../scripts/fetch-cc" || { echo "1..0 # SKIP no compiler root: run scripts/fetch-cc"; exit 0; }

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cp -a "$root" "$tmp/root"
cp "$here/compile_guest.sh" "$tmp/root/compile"
# The guest's disk is the archive itself: no file system, no loop device.
tar -C "$tmp/root" -cf "$tmp/disk" .
truncate -s %512 "$tmp/disk"
enter=chroot
[ "$(id -u)" = 0 ] || enter='unshare -r chroot'
$enter "$tmp/root" /bin/busybox sh /compile "$files" >"$tmp/host" || { echo "1..0 # SKIP cannot enter another root on this host"; exit 0; }

compiles() {
	timeout -s KILL 3400 "$userkvm" boot -n none -c 2 -m 1G -d "$tmp/disk,ro" --timeout 3300 "$@" --run "
		mkdir /r && tar -x -f /dev/vda -C /r && exec chroot /r /bin/busybox sh /compile $files" \
		>"$tmp/out" 2>"$tmp/err" </dev/null ||
		{ echo "# exit code $?"; tail -n 5 "$tmp/err" "$tmp/out" | sed 's/^/# /'; return 1; }
	cmp -s "$tmp/out" "$tmp/host" || { diff "$tmp/out" "$tmp/host" | sed 's/^/# /'; return 1; }
}

test_default() { compiles; }
test_interp() { compiles --engine interp; }
test_jit() { compiles --engine jit; }
# One processor: stores of another one could pass for differences.
test_lockstep() { compiles -c 1 --engine lockstep; }

[ $# -gt 0 ] || set -- default
run_tests "$@"
