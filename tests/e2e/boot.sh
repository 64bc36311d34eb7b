#!/bin/sh
# SPDX-License-Identifier: MIT
# `userkvm boot` from outside: whole machines, exit codes, messages. TAP.
# usage: tests/e2e/boot.sh build/userkvm [NAME...]    (all tests, or the named ones)
set -u
. "$(dirname "$0")/tap.sh"

userkvm=$1
shift
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
guest=${XDG_CACHE_HOME:-$HOME/.cache}/userkvm/guest/current
need_guest

# run CODE WORDS ARGS...: exit code, and words that standard error must contain ('' = must be empty).
# Standard output is left in $tmp/out. A machine that hangs is ended by timeout(1), with 137.
run() {
	want=$1
	words=$2
	shift 2
	timeout -s KILL "${limit:-300}" "$userkvm" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
	code=$?
	if [ "$code" != "$want" ]; then
		echo "# exit code $code instead of $want: userkvm $*"
		sed 's/^/# /' "$tmp/err" | tail -n 5
		return 1
	fi
	if [ -z "$words" ] && [ -s "$tmp/err" ] || ! grep -qF -- "$words" "$tmp/err" && [ -n "$words" ]; then
		echo "# standard error has no '$words':"
		sed 's/^/# /' "$tmp/err" | tail -n 5
		return 1
	fi
}

output_is() {
	printf '%s' "$1" >"$tmp/want"
	cmp -s "$tmp/want" "$tmp/out" && return 0
	sed 's/^/# got: /' "$tmp/out" | head -n 20
	return 1
}

test_usage() {
	run 2 "unknown option '--bogus'" boot --bogus &&
	run 2 "-c 0" boot -c 0 &&
	run 2 "-m 1" boot -m 1 &&
	run 2 "-n x" boot -n x &&
	run 2 "no command 'frob'" frob &&
	run 2 "no processor model 'z80'" boot --cpu z80 &&
	run 2 "no KVM yet on processor model 'amd'" boot --cpu amd &&
	run 0 '' --version &&
	run 0 '' help boot &&
	run 0 '' doctor &&
	grep -q '^/dev/kvm' "$tmp/out" && grep -q '^will use' "$tmp/out"
}

test_bad_files() {
	head -c 9000000 "$guest/vmlinuz" >"$tmp/truncated"
	echo no kernel >"$tmp/text"
	printf x >"$tmp/odd"
	: >"$tmp/empty"
	run 125 "/nonexistent: No such file" boot -k /nonexistent &&
	run 125 "truncated" boot -k "$tmp/truncated" &&
	run 125 "neither a Linux bzImage nor an ELF file" boot -k "$tmp/text" &&
	run 125 "empty" boot -k "$tmp/empty" &&
	run 125 "no ELF executable" boot -k /proc/self/exe &&
	run 125 "/nonexistent: No such file" boot -i /nonexistent &&
	run 125 "empty" boot -i "$tmp/empty" &&
	run 125 "/nonexistent: No such file" boot -d /nonexistent &&
	run 125 "sectors" boot -d "$tmp/odd" &&
	run 125 "too little memory" boot -m 32 &&
	XDG_CACHE_HOME=$tmp run 125 "run scripts/fetch-guest" boot
}

# Its payload does not unpack: the kernel's decompressor halts.
test_damaged_kernel() {
	cp "$guest/vmlinuz" "$tmp/damaged"
	head -c 4096 /dev/zero | dd of="$tmp/damaged" bs=4096 seek=1500 conv=notrunc 2>/dev/null
	run 125 "damaged" boot -n none -k "$tmp/damaged"
}

test_panic() {
	run 125 "guest kernel panic: VFS: Unable to mount root fs" boot -n none -i none
}

test_timeout() {
	run 124 "timeout" boot -n none --timeout 1 --run 'sleep 100'
}

test_run() {
	run 7 '' boot -n none --run 'echo out; echo err >&2; uname -s; nproc; exit 7' &&
	output_is 'out
err
Linux
1
'
}

# Every block by the interpreter and by its translation: they must agree all the way.
test_lockstep() {
	limit=3600
	run 7 '' boot -n none -c 1 --engine lockstep --timeout 3500 --run 'echo out; uname -s; nproc; exit 7'
	status=$?
	limit=
	[ $status = 0 ] && output_is 'out
Linux
1
'
}

# Two processors, disks in both modes, network, entropy. Arguments: how userkvm is told to boot.
devices() {
	head -c 1048576 /dev/urandom >"$tmp/disk"
	cp "$tmp/disk" "$tmp/ro"
	run 0 '' "$@" -c 2 -d "$tmp/disk" -d "$tmp/ro,ro" --run '
		nproc
		cmp /dev/vda /dev/vdb && echo same
		echo changed | dd of=/dev/vda bs=512 seek=3 conv=notrunc 2>/dev/null
		echo changed | dd of=/dev/vdb bs=512 seek=3 conv=notrunc 2>/dev/null || echo read-only
		ip -o -4 addr show eth0 | tr -s " " | cut -d " " -f 4
		dd if=/dev/hwrng bs=16 count=1 2>/dev/null | wc -c' &&
	output_is '2
same
read-only
10.0.2.15/24
16
' &&
	[ "$(dd if="$tmp/disk" bs=512 skip=3 count=1 2>/dev/null | head -c 8)" = "changed" ] &&
	! cmp -s "$tmp/disk" "$tmp/ro"
}

test_devices() {
	devices boot
}

# The machine as a client that knows the system's calls only; the library serves the /dev/kvm that it opens.
test_host_kvm() {
	devices run -- "$userkvm" boot --host-kvm
}

# The kernel's ciphers against their known answers: a test of the processors.
test_crypto() {
	run 0 '' boot -n none -p 'cryptomgr.notests=n' --run '
		dmesg | grep "alg: .*fail"
		grep "^selftest" /proc/crypto | sort | uniq | tr -s " "' &&
	output_is 'selftest : passed
'
}

# A server in the guest, reached through a forwarded port.
test_hostfwd() {
	port=$((20000 + $$ % 20000))
	timeout -s KILL 300 "$userkvm" boot -n "user,hostfwd=tcp:127.0.0.1:$port-:80" \
		--run 'echo from the guest | nc -l -p 80' >"$tmp/out" 2>"$tmp/err" </dev/null &
	machine=$!
	got=
	for _ in $(seq 240); do
		# The forward takes connections before the guest does; then it answers nothing.
		got=$(busybox nc -w 2 127.0.0.1 "$port" </dev/null 2>/dev/null)
		[ -n "$got" ] && break
		kill -0 $machine 2>/dev/null || break
		sleep 0.5
	done
	wait $machine
	code=$?
	[ "$code" = 0 ] && [ "$got" = "from the guest" ] && return 0
	echo "# got '$got', exit code $code"
	sed 's/^/# /' "$tmp/err"
	return 1
}

# Typed input, power-off from the shell.
test_shell() {
	printf 'echo $((6 * 7)) is typed\nexit\n' |
		timeout -s KILL 300 "$userkvm" boot -n none >"$tmp/out" 2>"$tmp/err"
	code=$?
	[ "$code" = 0 ] && grep -q '42 is typed' "$tmp/out" && return 0
	echo "# exit code $code"
	tail -n 5 "$tmp/out" | sed 's/^/# /'
	return 1
}

[ $# -gt 0 ] || set -- usage bad_files damaged_kernel panic timeout run devices host_kvm crypto hostfwd shell
run_tests "$@"
