#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What `userkvm run` says about programs: usage: refused.sh USERKVM STATIC_PROGRAM RAW_PROGRAM USERKVM_QEMU
# Replay: tests/shim/refused.sh build/userkvm build/tests/shim/shim_static \
#   build/tests/shim/shim_raw build/userkvm-qemu
set -u
userkvm=$1 static=$2 raw=$3 qemu=$4
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
n=0

# expect STATUS TEXT COMMAND...: the exit status, and one line with the text on standard error.
expect() {
	status=$1 text=$2
	shift 2
	n=$((n + 1))
	"$@" >"$tmp/out" 2>"$tmp/err"
	got=$?
	if [ $got = "$status" ] && { [ -z "$text" ] || grep -q -- "$text" "$tmp/err"; }; then
		echo "ok $n - $text ($status)"
	else
		echo "not ok $n - $* # exit $got, wanted $status '$text'"
		sed 's/^/# /' "$tmp/err"
	fi
}

printf '#!%s\n' "$static" >"$tmp/script"
printf '#!/bin/sh\ntest -c /dev/kvm -a -r /dev/kvm && exit 5\n' >"$tmp/good"
printf 'no program\n' >"$tmp/text"
printf '\177ELF\001\001\001\0\0\0\0\0\0\0\0\0\002\0\003\0%052d' 0 >"$tmp/i386"
printf '\177ELF\002\001' >"$tmp/short"
cp /bin/true "$tmp/musl"
sed -i 's/ld-linux-x86-64/ld-other-x86-64/' "$tmp/musl"
chmod +x "$tmp"/*

echo 1..18
expect 126 'statically linked' "$userkvm" run -- "$static"
expect 126 'statically linked' "$userkvm" run "$tmp/script"
expect 126 'no program for 64-bit x86' "$userkvm" run "$tmp/i386"
expect 126 'cut off' "$userkvm" run "$tmp/short"
expect 126 "dynamic linker is .*not glibc's" "$userkvm" run "$tmp/musl"
expect 126 'neither an ELF' "$userkvm" run "$tmp/text"
expect 126 'Permission denied' "$userkvm" run /etc/passwd
expect 127 'No such file' "$userkvm" run no-such-program
expect 2 'no program given' "$userkvm" run -v
expect 2 'no KVM on a processor model' "$userkvm" run --cpu nosuch -- true
expect 2 'open, start or host' "$userkvm" run --cpuid now -- true
expect 5 '' "$userkvm" run -- "$tmp/good"
expect 7 '' "$userkvm" run --cpu intel sh -c 'exit 7'
expect 0 'system calls of its own' "$userkvm" run -v -- "$raw"
# The link that a tool would be given, to a stand-in for QEMU.
printf '#!/bin/sh\ntest -c /dev/kvm && echo "$USERKVM_ENGINE $*" >&2\n' >"$tmp/fake-qemu"
chmod +x "$tmp/fake-qemu"
ln -s "$(realpath "$qemu")" "$tmp/link"
export USERKVM_QEMU="$tmp/fake-qemu"
expect 0 ' -accel kvm -m 1' "$qemu" -accel kvm -m 1
expect 0 'interp -x' env USERKVM_ARGS='--engine interp' "$tmp/link" -x
expect 127 'No such file' env USERKVM_QEMU=no-such-qemu "$qemu" -x
expect 2 'no engine' env USERKVM_ARGS='--engine nosuch' "$qemu" -x
