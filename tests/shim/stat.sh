#!/bin/sh
# SPDX-License-Identifier: MIT
#
# `userkvm stat` and traces of a client: usage: stat.sh USERKVM SHIM_CLIENT
# Replay: tests/shim/stat.sh build/userkvm build/tests/shim/shim_client
set -u
userkvm=$1 client=$2
tmp=$(mktemp -d)
XDG_RUNTIME_DIR=$tmp
export XDG_RUNTIME_DIR
pid=
trap '[ -z "$pid" ] || kill -KILL $pid 2>/dev/null; rm -rf "$tmp"' EXIT
n=0

ok() {
	n=$((n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
		sed 's/^/# /' "$tmp/err" | tail -n 30
	fi
}

nothing_left() { [ -z "$(ls "$tmp" | grep userkvm-stat)" ]; }

echo 1..15
"$userkvm" stat -- "$client" --halts 5 >"$tmp/out" 2>"$tmp/err"
[ $? = 5 ] && grep -q '^ *HLT  *[0-9]' "$tmp/err" && grep -q '^Total Samples:' "$tmp/err" && nothing_left
ok $? 'report of a command, and its exit status'

{
	"$userkvm" stat record -o "$tmp/record" -- "$client" --halts 0 &&
		"$userkvm" stat report -i "$tmp/record" -k time
} >"$tmp/err" 2>&1
grep -q '^ *HLT  *[0-9]' "$tmp/err" && nothing_left
ok $? 'record, then report'

"$userkvm" stat report -i "$client" >/dev/null 2>"$tmp/err"
[ $? = 125 ] && grep -q 'Invalid argument' "$tmp/err"
ok $? 'a file that is no record'

"$userkvm" stat -- sh -c 'kill -KILL $$' 2>"$tmp/err"
[ $? = 137 ] && nothing_left
ok $? 'a command that is killed'

"$userkvm" run -- "$client" --halts 60 >/dev/null 2>&1 &
pid=$!
for i in $(seq 100); do
	"$userkvm" stat live -1 -d 0.3 -p $pid >"$tmp/err" 2>&1 && grep -q HLT "$tmp/err" && break
	sleep 0.1
done
grep -q "Analyze events for pid(s) $pid, all VCPUs:" "$tmp/err" && grep -q '^ *HLT  *[0-9]' "$tmp/err"
ok $? 'a program that runs already'
kill -KILL $pid
wait $pid 2>/dev/null
"$userkvm" stat live -1 -d 0.1 -p $pid >/dev/null 2>"$tmp/err"
[ $? = 125 ] && grep -q 'no vCPU' "$tmp/err"
ok $? 'a program that is gone'
pid=

"$userkvm" stat -e frob true 2>"$tmp/err"
[ $? = 2 ] && ! "$userkvm" stat 2>/dev/null && ! "$userkvm" stat live -p x 2>/dev/null
ok $? 'bad usage'

"$userkvm" run --trace "$tmp/trace" --trace-points kvm_entry,kvm_exit -- "$client" --halts 0 >"$tmp/err" 2>&1
grep -q '^cpus=' "$tmp/trace" &&
	grep -qE '^ +[^ ]+-[0-9]+ +\[[0-9]{3}\] +[0-9]+\.[0-9]{6}: kvm_exit: {13}vcpu 0 reason HLT rip 0x' "$tmp/trace" &&
	grep -qE ': kvm_entry: {12}vcpu 0, rip 0x' "$tmp/trace" && ! grep -q kvm_pio "$tmp/trace"
ok $? 'a trace of two points'

"$userkvm" run --trace "$tmp/all" -- "$client" --halts 0 >"$tmp/err" 2>&1
lines=$(grep -vc '^cpus=' "$tmp/all")
"$userkvm" trace --json "$tmp/all" >"$tmp/json" 2>"$tmp/err" && python3 - "$tmp/json" "$lines" <<-'PY' 2>>"$tmp/err"
	import json, sys
	got = [json.loads(line) for line in open(sys.argv[1])]
	assert len(got) == int(sys.argv[2]), (len(got), sys.argv[2])
	assert any(e["event"] == "kvm_exit" and e["text"].startswith("vcpu 0 reason HLT rip 0x") for e in got)
	assert all(e["time"] > 0 and e["pid"] > 0 and e["task"] == "shim_client" for e in got)
PY
ok $? 'a trace as JSON'

if command -v trace-cmd >/dev/null; then
	# Without plugins the text is ours, with them trace-cmd makes it of the fields.
	"$userkvm" trace -o "$tmp/dat" "$tmp/all" 2>"$tmp/err" &&
		trace-cmd report -N -i "$tmp/dat" >"$tmp/report" 2>>"$tmp/err" &&
		sort -k3,3 -s "$tmp/all" | sed '/^cpus=/d; s/  *$//' >"$tmp/want" &&
		sed '/^cpus=/d; s/  *$//' "$tmp/report" | sort -k3,3 -s >"$tmp/got" && cmp "$tmp/want" "$tmp/got" >>"$tmp/err" &&
		trace-cmd report -i "$tmp/dat" 2>>"$tmp/err" | grep -q 'kvm_exit: .*reason HLT rip 0x'
	ok $? 'a trace that trace-cmd reads'
else
	n=$((n + 1))
	echo "ok $n - a trace that trace-cmd reads # SKIP no trace-cmd"
fi

"$userkvm" run --trace "$tmp/fail" --trace-points kvm_emulate_insn,kvm_userspace_exit -- "$client" --fails >"$tmp/err" 2>&1 &&
	grep -q ': kvm_emulate_insn: *f0000:1234: (real) failed$' "$tmp/fail" &&
	grep -q ': kvm_userspace_exit: *reason KVM_EXIT_INTERNAL_ERROR (17)$' "$tmp/fail"
ok $? 'an instruction that cannot be emulated, in the kernel'"'"'s text'

if command -v trace-cmd >/dev/null; then
	printf 'cpus=1\n%s\n' '          client-77    [000]     1.000000: kvm_emulate_insn:     0:ffffffff81000000: 0f 01 d9 (prot64) failed' >"$tmp/fail"
	"$userkvm" trace -o "$tmp/dat" "$tmp/fail" 2>"$tmp/err" &&
		trace-cmd report -i "$tmp/dat" >"$tmp/report" 2>>"$tmp/err" &&
		grep -q 'kvm_emulate_insn: *0:ffffffff81000000: *\(0f 01 d9\|clgi\).* FAIL' "$tmp/report"
	err=$?
	cat "$tmp/report" >>"$tmp/err"
	ok $err 'its fields, as trace-cmd takes them apart'
else
	n=$((n + 1))
	echo "ok $n - its fields # SKIP no trace-cmd"
fi

"$userkvm" trace "$client" 2>"$tmp/err"
[ $? = 125 ] && grep -q 'not what' "$tmp/err" && { "$userkvm" trace 2>>"$tmp/err"; [ $? = 2 ]; } &&
	{ "$userkvm" trace "$tmp/none" 2>>"$tmp/err"; [ $? = 125 ]; } && ! [ -e trace.dat ]
ok $? 'a file that is no trace'

"$userkvm" stat --json -- "$client" --halts 0 2>&1 >/dev/null | tail -n 1 >"$tmp/err"
python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); assert r["samples"] == sum(x["samples"] for x in r["rows"]) and "HLT" in [x["key"] for x in r["rows"]]' "$tmp/err"
ok $? 'a report as JSON'

"$userkvm" run --trace /nonexistent/x true 2>"$tmp/err"
[ $? = 125 ] && { "$userkvm" run --trace-points kvm_exit true 2>/dev/null; [ $? = 2 ]; } &&
	{ "$userkvm" run --trace "$tmp/t" --trace-points nosuch true 2>/dev/null; [ $? = 2 ]; } &&
	{ "$userkvm" run --engine nosuch true 2>/dev/null; [ $? = 2 ]; } &&
	"$userkvm" run --engine interp true
ok $? 'options of run'
