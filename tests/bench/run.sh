#!/bin/sh
# SPDX-License-Identifier: MIT
# ./dev bench [PART...]: measure; prints figures and ratios, asserts nothing. Parts:
#   micro       loops and exits through /dev/kvm, no guest kernel
#   workloads   the measuring program natively, on each engine and under QEMU TCG (see workloads.py)
#   quick       a subset of its rows, in less than three minutes
#   boot        processor time of a whole boot
#   clients     QEMU with -accel kvm beside -accel tcg: boot, exits, halted guest, disk by irqfd; then an irqfd alone
#   memory      resident memory beside the guest's
#   vdpa        VDUSE beside vhost-user-blk, NBD and pread; bounce copies, attach time
# Without a part: all but quick.
set -eu
build=$1
shift
what=${*:-micro workloads boot memory clients vdpa}
guest=${XDG_CACHE_HOME:-$HOME/.cache}/userkvm/guest/current
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# cpu_seconds CMD...: user + system time of CMD, its output to $tmp/out.
cpu_seconds() {
	python3 - "$tmp/out" "$@" <<'PY'
import resource, subprocess, sys, time
t = time.monotonic()
with open(sys.argv[1], "wb") as out:
    subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=600)
r = resource.getrusage(resource.RUSAGE_CHILDREN)
print("%.2f %.2f %d" % (r.ru_utime + r.ru_stime, time.monotonic() - t, r.ru_maxrss))
PY
}

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# What `userkvm boot --engine` offers for running; lockstep only compares.
engines() {
	"$build/userkvm" help boot | sed -n '/--engine NAME/,/^  *-/p' | grep -ow -e interp -e jit | sort -u
}

# The same kernel, initrd, parameters and memory on all; from start to power-off.
boot() {
	params="console=ttyS0 panic=-1 quiet cryptomgr.notests"
	"$build/userkvm" initrd -o "$tmp/initrd" --run true
	for i in 1 2 3; do
		for engine in $(engines); do
			cpu_seconds "$build/userkvm" boot --engine "$engine" -n none -m 512M -k "$guest/vmlinuz" -i "$tmp/initrd" \
				-p "$params" >>"$tmp/userkvm-$engine"
		done
		for cpu in max max,-erms,-fsrm; do
			cpu_seconds qemu-system-x86_64 -accel tcg -cpu $cpu -m 512 -nographic -nodefaults -serial stdio -no-reboot \
				-kernel "$guest/vmlinuz" -initrd "$tmp/initrd" -append "$params" >>"$tmp/tcg-$cpu"
		done
	done
	echo "boot to a command and power-off, CPU seconds, medians of 3; then userkvm's time relative to TCG's:"
	for engine in $(engines); do
		ours=$(cut -d' ' -f1 "$tmp/userkvm-$engine" | median)
		printf '  userkvm %-10s %6.2f' "$engine" "$ours"
		for cpu in max max,-erms,-fsrm; do
			tcg=$(cut -d' ' -f1 "$tmp/tcg-$cpu" | median)
			printf '   TCG %s %.2f: %.2f' "$cpu" "$tcg" "$(awk "BEGIN { print $ours / $tcg }")"
		done
		echo
	done
}

memory() {
	for engine in $(engines); do
		python3 "$(dirname "$0")/memory.py" "$build/userkvm" "$engine"
	done
}

for w in $what; do
	echo "== $w"
	case $w in
	micro)
		for engine in $(engines); do
			echo "-- $engine"
			USERKVM_ENGINE=$engine "$build/tests/bench/bench"
		done ;;
	workloads) python3 "$(dirname "$0")/workloads.py" "$build" ;;
	quick) python3 "$(dirname "$0")/workloads.py" "$build" --quick ;;
	boot) boot ;;
	clients)
		python3 "$(dirname "$0")/clients.py" "$build/userkvm"
		"$build/tests/abi/irqfd_bench" 2>/dev/null | grep '^  ' ;;
	memory) memory ;;
	vdpa) "$build/tests/vdpa/vdpa_bench" "$build/userkvm" "$build/libuserkvm.so" /usr/bin/qemu-storage-daemon ;;
	*) echo "bench: no such part: $w" >&2; exit 2 ;;
	esac
done
