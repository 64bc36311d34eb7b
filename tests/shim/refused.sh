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
printf '\177ELF\002\001\001\0\0\0\0\0\0\0\0\0\002\0\267\0%0104d' 0 >"$tmp/arm64"
printf '\177ELF\002\001' >"$tmp/short"
cp /bin/true "$tmp/musl"
sed -i 's/ld-linux-x86-64/ld-other-x86-64/' "$tmp/musl"
chmod +x "$tmp"/*
for i in 1 2 3 4 5 6; do
	printf '#!%s\n' "$tmp/deep$((i + 1))" >"$tmp/deep$i"
done
chmod +x "$tmp"/deep*

echo 1..36
expect 126 'statically linked' "$userkvm" run -- "$static"
expect 126 'statically linked' "$userkvm" run "$tmp/script"
expect 126 'no program for 64-bit x86' "$userkvm" run "$tmp/i386"
expect 126 'no program for 64-bit x86 (ELF machine 183, class 2)' "$userkvm" run "$tmp/arm64"
expect 126 'cut off' "$userkvm" run "$tmp/short"
expect 126 'a script of a script' "$userkvm" run "$tmp/deep1"
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
# Rights by the file: only root can make such files of another owner, only another user is refused capabilities.
rights() {
	n=$((n + 1))
	echo "ok $n - $1 # SKIP $2"
}
if [ "$(id -u)" = 0 ]; then
	for bits in 4755 2755; do
		cp /bin/true "$tmp/rights$bits"
		chown 65534:65534 "$tmp/rights$bits"
		chmod $bits "$tmp/rights$bits"
	done
	expect 126 'set-user-ID, and' "$userkvm" run "$tmp/rights4755"
	expect 126 'set-group-ID, and' "$userkvm" run "$tmp/rights2755"
	# One's own gives no rights.
	chown 0:0 "$tmp/rights4755"
	chmod 4755 "$tmp/rights4755"
	expect 0 '' "$userkvm" run "$tmp/rights4755"
else
	for i in 1 2 3; do rights 'rights of another owner' 'not root'; done
fi
if [ "$(id -u)" = 0 ] && cp /bin/true "$tmp/rights" && python3 -c "import os, struct
os.setxattr('$tmp/rights', 'security.capability', struct.pack('<5I', 0x02000001, 1 << 13, 0, 0, 0))" 2>"$tmp/err" &&
	setpriv --reuid 65534 --regid 65534 --clear-groups "$userkvm" --version >/dev/null 2>&1; then
	chmod 755 "$tmp"
	expect 126 'its file has capabilities' setpriv --reuid 65534 --regid 65534 --clear-groups "$userkvm" run "$tmp/rights"
	expect 0 '' "$userkvm" run "$tmp/rights"
else
	for i in 1 2; do rights 'capabilities of the file' 'cannot make or see such a file here'; done
fi

# Without `userkvm run`: the object alone, and variables. Where there is none of ours, there is none of the host's.
preload() {
	status=$1 text=$2
	shift 2
	expect $status "$text" env LD_PRELOAD="$(dirname "$(realpath "$userkvm")")/libuserkvm.so" "$@" sh -c 'test -c /dev/kvm && exit 5'
}
preload 5 '' USERKVM_CPU=intel USERKVM_ENGINE=interp USERKVM_CPUID=host
preload 5 '' USERKVM_CPU= USERKVM_ENGINE= USERKVM_CPUID= USERKVM_LOG= USERKVM_TRACE=
preload 1 "no processor model 'nosuch' (USERKVM_CPU): there is no /dev/kvm" USERKVM_CPU=nosuch
preload 1 "'amd' (USERKVM_CPU) cannot run guests" USERKVM_CPU=amd
preload 5 "USERKVM_ENGINE: no engine 'nosuch'" USERKVM_ENGINE=nosuch
preload 5 "USERKVM_CPUID is 'never', not open, start or host" USERKVM_CPUID=never
preload 5 'USERKVM_LOG: loud: not info or debug' USERKVM_LOG=loud
preload 5 'USERKVM_TRACE: /nonexistent/x: No such file' USERKVM_TRACE=/nonexistent/x
preload 5 'USERKVM_TRACE_POINTS: nosuch: unknown name' USERKVM_TRACE="$tmp/t" USERKVM_TRACE_POINTS=nosuch
expect 1 'No such file' env LD_PRELOAD="$(dirname "$(realpath "$userkvm")")/libuserkvm.so" USERKVM_CPU=amd \
	sh -c 'cat /dev/kvm && exit 9'
expect 5 "USERKVM_ENGINE: no engine 'nosuch'" env USERKVM_ENGINE=nosuch "$userkvm" run -- "$tmp/good"

# The link that a tool would be given, to a stand-in for QEMU.
printf '#!/bin/sh\ntest -c /dev/kvm && echo "$USERKVM_ENGINE $*" >&2\n' >"$tmp/fake-qemu"
chmod +x "$tmp/fake-qemu"
ln -s "$(realpath "$qemu")" "$tmp/link"
export USERKVM_QEMU="$tmp/fake-qemu"
expect 0 ' -accel kvm -m 1' "$qemu" -accel kvm -m 1
expect 0 'interp -x' env USERKVM_ARGS='--engine interp' "$tmp/link" -x
expect 127 'No such file' env USERKVM_QEMU=no-such-qemu "$qemu" -x
expect 2 'no engine' env USERKVM_ARGS='--engine nosuch' "$qemu" -x
