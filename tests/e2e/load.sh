#!/bin/sh
# SPDX-License-Identifier: MIT
# Machines of several sizes under load: minutes each. TAP.
# usage: tests/e2e/load.sh build/userkvm [NAME...]
set -u
. "$(dirname "$0")/tap.sh"

userkvm=$1
shift
tmp=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$tmp"' EXIT
need_guest

# What the kernel must not have said. Levels 0-4 are warnings and worse. Allowed: the names of
# processors that come up, continuation lines that the log marks as warnings; and how long
# a timer interrupt took, which is the host's load.
clean='dmesg -r | grep -E "^<[0-4]>|Oops|BUG|WARNING|soft lockup|stall" |
	grep -vE "^<4>\[ *[0-9.]+\] +#[0-9]+$|hrtimer: interrupt took"; true'

boot() {
	timeout -s KILL 900 "$userkvm" boot --timeout 800 "$@" >"$tmp/out" 2>"$tmp/err" </dev/null && return 0
	echo "# exit code $?: userkvm boot $*"
	tail -n 5 "$tmp/err" | sed 's/^/# /'
	return 1
}

nothing_said() {
	[ ! -s "$tmp/log" ] && return 0
	sed 's/^/# the kernel said: /' "$tmp/log" | head -n 10
	return 1
}

test_sizes() {
	for size in '1 256M' '2 256M' '4 1G' '1 4G' '4 4G'; do
		set -- $size
		boot -n none -c "$1" -m "$2" --run "nproc; $clean" || return 1
		[ "$(head -n 1 "$tmp/out")" = "$1" ] || { echo "# $size: $(head -n 1 "$tmp/out") processors"; return 1; }
		sed 1d "$tmp/out" >"$tmp/log"
		nothing_said || return 1
	done
}

# Processes, pipes, memory and files for a minute on every processor.
test_stress() {
	boot -n none -c 4 -m 1G --run '
		mkdir -p /tmp; mount -t tmpfs none /tmp 2>/dev/null
		end=$(($(cut -d. -f1 /proc/uptime) + 60))
		work() {
			n=0
			while [ $(cut -d. -f1 /proc/uptime) -lt $end ]; do
				dd if=/dev/urandom of=/tmp/a$1 bs=64k count=16 2>/dev/null
				cat /tmp/a$1 | gzip -1 | gunzip | cmp - /tmp/a$1 || echo "worker $1: data differ"
				for i in 1 2 3 4 5 6 7 8; do (true | cat | wc -c >/dev/null); done
				cp /tmp/a$1 /tmp/b$1; sha256sum </tmp/b$1 >/tmp/c$1; sha256sum </tmp/a$1 | cmp - /tmp/c$1
				n=$((n + 1))
			done
			[ $n -gt 0 ] || echo "worker $1 did nothing"
		}
		for w in 1 2 3 4 5 6; do work $w & done
		wait
		'"$clean" || return 1
	cp "$tmp/out" "$tmp/log"
	nothing_said
}

test_disk() {
	truncate -s 256M "$tmp/disk"
	boot -n none -c 2 -m 512M -d "$tmp/disk" --run '
		dd if=/dev/urandom of=/tmp/block bs=1M count=16 2>/dev/null
		for i in $(seq 0 15); do dd if=/tmp/block of=/dev/vda bs=1M seek=$((i * 16)) conv=notrunc,fsync 2>/dev/null; done
		echo 3 >/proc/sys/vm/drop_caches
		sha256sum </tmp/block | cut -d" " -f1
		for i in $(seq 0 15); do dd if=/dev/vda bs=1M skip=$((i * 16)) count=16 2>/dev/null | cmp - /tmp/block || echo "chunk $i differs"; done
		sha256sum </dev/vda | cut -d" " -f1
		'"$clean" || return 1
	[ "$(sed -n 2p "$tmp/out")" = "$(sha256sum <"$tmp/disk" | cut -d' ' -f1)" ] || { echo "# the image differs from what the guest read"; return 1; }
	sed 1,2d "$tmp/out" >"$tmp/log"
	nothing_said
}

# Outbound TCP to a server on the host's loopback, which the guest sees at 10.0.2.2.
test_http() {
	mkdir "$tmp/www"
	head -c 33554432 /dev/urandom >"$tmp/www/file"
	port=$((20000 + $$ % 20000))
	python3 -m http.server -d "$tmp/www" -b 127.0.0.1 "$port" >/dev/null 2>&1 &
	server=$!
	boot -c 2 --run "wget -q -O - http://10.0.2.2:$port/file | sha256sum | cut -d' ' -f1; $clean" || return 1
	[ "$(head -n 1 "$tmp/out")" = "$(sha256sum <"$tmp/www/file" | cut -d' ' -f1)" ] || { echo "# the download differs"; return 1; }
	sed 1d "$tmp/out" >"$tmp/log"
	nothing_said
}

[ $# -gt 0 ] || set -- sizes stress disk http
run_tests "$@"
