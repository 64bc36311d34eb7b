#!/bin/sh
# SPDX-License-Identifier: MIT
# ./dev bench [micro|boot|memory]: measure; prints figures and ratios, asserts nothing.
set -eu
build=$1
shift
what=${*:-micro boot memory}
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

boot() {
	"$build/userkvm" initrd -o "$tmp/initrd" >/dev/null
	for i in 1 2 3; do
		cpu_seconds "$build/userkvm" boot -m 512M --run true >>"$tmp/ours"
		cpu_seconds qemu-system-x86_64 -accel tcg -cpu max -m 512 -nographic -no-reboot \
			-kernel "$guest/vmlinuz" -initrd "$tmp/initrd" \
			-append "console=ttyS0 quiet panic=-1 userkvm.run=true" >>"$tmp/tcg"
	done
	ours=$(cut -d' ' -f1 "$tmp/ours" | median)
	tcg=$(cut -d' ' -f1 "$tmp/tcg" | median)
	echo "boot to the first command and off again, CPU seconds (medians of 3):"
	echo "  userkvm interp $ours    QEMU TCG $tcg    ratio $(awk "BEGIN { printf \"%.2f\", $ours / $tcg }")"
}

memory() {
	# Peak resident memory less what the guest may have touched of its own.
	set -- $(cpu_seconds "$build/userkvm" boot -m 128M -c 1 -v --run "grep VmRSS /proc/self/status")
	echo "peak resident memory with a 128 MiB guest: $(($3 / 1024)) MiB"
}

for w in $what; do
	echo "== $w"
	case $w in
	micro) "$build/tests/bench/bench" ;;
	boot) boot ;;
	memory) memory ;;
	*) echo "bench: no such part: $w" >&2; exit 2 ;;
	esac
done
