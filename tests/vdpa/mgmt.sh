#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Management of vDPA devices, by our command and by iproute2's own: usage:
#   mgmt.sh USERKVM NEGOTIATE NET_DAEMON
# Replay: tests/vdpa/mgmt.sh build/userkvm build/tests/vdpa/vdpa_negotiate build/tests/e2e/vdpa_net_daemon
# Names carry the acceptance test that they automate. Each run has a hub of its own.
set -u
userkvm=$(realpath "$1") negotiate=$(realpath "$2") net_daemon=$(realpath "$3")
tmp=$(mktemp -d)
XDG_RUNTIME_DIR=$tmp USERKVM_IFCVF=n3000-net
export XDG_RUNTIME_DIR USERKVM_IFCVF
unset USERKVM_EXE
n=0 failed=0

v() { timeout 60 "$userkvm" vdpa "$@"; }
real() { timeout 60 "$userkvm" run -- /usr/sbin/vdpa "$@"; }
hub_pid() {
	read -r pid <"$tmp/userkvm/hub.lock" && kill -0 "$pid" && echo "$pid"
} 2>/dev/null

cleanup() {
	pid=$(hub_pid)
	[ -z "$pid" ] || kill "$pid"
	rm -rf "$tmp"
}
trap cleanup EXIT

ok() {
	n=$((n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $n - $2"
	else
		failed=1
		echo "not ok $n - $2"
		[ ! -s "$tmp/why" ] || sed 's/^/# /' "$tmp/why"
	fi
	: >"$tmp/why"
}

# prints NAME COMMAND...: its output is standard input's text, and it succeeds.
prints() {
	name=$1
	shift
	cat >"$tmp/want"
	"$@" >"$tmp/got" 2>"$tmp/err"
	status=$?
	diff "$tmp/want" "$tmp/got" >"$tmp/why" && [ $status = 0 ] && [ ! -s "$tmp/err" ]
	ok $? "$name"
}

# refuses NAME TEXT COMMAND...: status 1, nothing on standard output, the text on standard error.
refuses() {
	name=$1 text=$2
	shift 2
	"$@" >"$tmp/got" 2>"$tmp/err"
	status=$?
	{ echo "status $status"; cat "$tmp/got" "$tmp/err"; } >"$tmp/why"
	[ $status = 1 ] && [ ! -s "$tmp/got" ] && grep -q -- "$text" "$tmp/err"
	ok $? "$name"
}

# same ARGS: iproute2's tool prints what ours does, on both outputs.
same() {
	v "$@" >"$tmp/ours" 2>&1
	real "$@" >"$tmp/theirs" 2>&1
	diff "$tmp/theirs" "$tmp/ours" >"$tmp/why"
	ok $? "G.C 1: as iproute2: $*"
}

: >"$tmp/why"
echo "TAP version 13"

# ---- A hub appears when it is needed ----
prints "G.C 1: empty bus, no hub before" v dev show </dev/null
echo "hub '$(hub_pid)'" >"$tmp/why"
[ -n "$(hub_pid)" ] && [ "$(stat -c %a "$tmp/userkvm")" = 700 ] && [ "$(stat -c %a "$tmp/userkvm/hub")" = 600 ]
ok $? "a hub was started, its folder and socket are the user's alone"
prints "G.C 1: empty bus, JSON" v -j dev show <<'TXT'
{"dev":{}}
TXT
prints "G.C 1: parents" v mgmtdev show <<'TXT'
vduse: 
  supported_classes net block
  max_supported_vqs 0
  dev_features
vdpasim_net: 
  supported_classes net
  max_supported_vqs 3
  dev_features MTU MAC CTRL_VQ CTRL_MAC_ADDR ANY_LAYOUT VERSION_1 ACCESS_PLATFORM
vdpasim_blk: 
  supported_classes block
  max_supported_vqs 0
  dev_features
pci/0000:01:00.0: 
  supported_classes net
  max_supported_vqs 2
  dev_features MTU MAC STATUS ANY_LAYOUT RING_INDIRECT_DESC RING_EVENT_IDX VERSION_1 ACCESS_PLATFORM ORDER_PLATFORM
TXT

# ---- Devices ----
prints "add a network device" v dev add name foo mgmtdev vdpasim_net mac 00:11:22:33:44:55 </dev/null
prints "add a disk" v dev add name disk mgmtdev vdpasim_blk </dev/null
prints "G.E 4: add the card's" v dev add name nic mgmtdev pci/0000:01:00.0 </dev/null
prints "G.C 1: devices" v dev show <<'TXT'
foo: type network mgmtdev vdpasim_net vendor_id 0 max_vqs 3 max_vq_size 256
disk: type block mgmtdev vdpasim_blk vendor_id 0 max_vqs 1 max_vq_size 256
nic: type network mgmtdev pci/0000:01:00.0 vendor_id 32902 max_vqs 2 max_vq_size 32768
TXT
prints "G.C 1: a device, JSON" v -jp dev show disk <<'TXT'
{
    "dev": {
        "disk": {
            "type": "block",
            "mgmtdev": "vdpasim_blk",
            "vendor_id": 0,
            "max_vqs": 1,
            "max_vq_size": 256
        }
    }
}
TXT
prints "G.C 1: configuration" v dev config show foo <<'TXT'
foo: mac 00:11:22:33:44:55 link up link_announce false mtu 1500 
TXT
prints "G.C 1: configuration, JSON" v -j dev config show foo <<'TXT'
{"config":{"foo":{"mac":"00:11:22:33:44:55","link ":"up","link_announce ":false,"mtu":1500}}}
TXT

prints "a device's node" v node disk <<'TXT'
/dev/vhost-vdpa-1
TXT

# ---- Refusals ----
refuses "node of nobody" "No such device" v node nobody
refuses "G.C 2: name taken" "File exists" v dev add name foo mgmtdev vdpasim_net
refuses "G.C 2: no such parent" "No such device" v dev add name x mgmtdev vdpasim_fs
refuses "G.C 2: bus of a software parent" "No such device" v dev add name x mgmtdev pci/vdpasim_net
refuses "G.C 2: parent without its bus" "No such device" v dev add name x mgmtdev 0000:01:00.0
refuses "G.C 2: no such device, show" "No such device" v dev show x
refuses "G.C 2: no such device, config" "No such device" v dev config show x
refuses "G.C 2: no such device, del" "No such device" v dev del x
refuses "G.C 2: attribute not supported" "Operation not supported" v dev add name x mgmtdev vdpasim_blk mtu 1500
refuses "G.C 2: mtu 67" "Numerical result out of range" v dev add name x mgmtdev vdpasim_net mtu 67
refuses "G.C 2: max_vqp 0" "Invalid argument" v dev add name x mgmtdev vdpasim_net max_vqp 0
refuses "G.C 2: features beyond the parent's" "Invalid argument" \
	v dev add name x mgmtdev vdpasim_net device_features 0x8000000000000000
refuses "G.C 2: configuration of a disk" "Operation not supported" v dev config show disk
refuses "G.C 2: statistics before negotiation" "Resource temporarily unavailable" v dev vstats show foo qidx 0
refuses "G.C 2: statistics of a parent without" "Operation not supported" v dev vstats show nic qidx 0
refuses "G.C 2: attributes of a VDUSE device" "Operation not supported" \
	v dev add name x mgmtdev vduse mac 00:11:22:33:44:55
refuses "G.C 2: a VDUSE device that no daemon made" "no daemon has made" v dev add name x mgmtdev vduse
refuses "G.C 2: one device for a card" "has its device already" v dev add name nic2 mgmtdev pci/0000:01:00.0
refuses "no name" "name is not set" v dev add mgmtdev vdpasim_net
refuses "no parent" "handle not set" v dev add name x
refuses "numbers as iproute2 reads them" "Numerical result out of range" v dev add name x mgmtdev vdpasim_net mtu 0x43
refuses "a number that is none" "mtu" v dev add name x mgmtdev vdpasim_net mtu 1e3
refuses "a word that is none" "Unknown option" v dev add name x mgmtdev vdpasim_net colour red
refuses "a command that is none" "not found" v dev paint
refuses "statistics of no queue" "queue index" v dev vstats show foo

# wrong TEXT COMMAND...: a wrong command line: status 2 and one line that names it, before the hint.
wrong() {
	text=$1
	shift
	"$@" >"$tmp/got" 2>"$tmp/err"
	status=$?
	{ echo "status $status"; cat "$tmp/got" "$tmp/err"; } >"$tmp/why"
	[ $status = 2 ] && [ ! -s "$tmp/got" ] && [ "$(wc -l <"$tmp/err")" = 2 ] && head -n 1 "$tmp/err" | grep -q -- "$text"
	ok $? "one line: $text"
}
wrong "node wants the name" v node
wrong "vduse wants the name" v vduse
wrong "'msg_timeout' wants a value" v vduse x msg_timeout
wrong "'abc' is no number" v vduse x msg_timeout abc
wrong "no 'colour'" v vduse x colour 3
wrong "one device name" v nbd
wrong "--socket FILE is missing" v nbd x
wrong "'--socket' wants a value" v nbd x --socket
wrong "unknown option '--colour'" v nbd x --colour
wrong "--idle wants a number" v hub --idle
wrong "not 'x'" v hub --idle x
wrong "without a device's name" "$userkvm" boot -n vdpa:
wrong "modes are" "$userkvm" boot -n vdpb:x

# What is in the way of a socket and is none stays.
echo precious >"$tmp/precious"
v nbd nobody --socket "$tmp/precious" >/dev/null 2>"$tmp/why"
[ "$(cat "$tmp/precious")" = precious ]
ok $? "nbd does not remove a file"

# ---- iproute2's own tool ----
if [ -x /usr/sbin/vdpa ] && [ -z "${USERKVM_SANITIZED:-}" ]; then
	for f in -p -j -jp; do
		same $f mgmtdev show
		same $f mgmtdev show vdpasim_net
		same $f mgmtdev show pci/0000:01:00.0
		same $f dev show
		same $f dev show nic
		same $f dev config show
		same $f dev config show foo
		same $f dev config show disk
		same $f dev show nobody
	done
	same d s
	same m list
	same dev add name foo mgmtdev vdpasim_net
	same dev add name x mgmtdev vdpasim_net mtu 67
	same dev add name x mgmtdev a/b/c
	prints "G.C 1: iproute2 adds" real dev add name theirs mgmtdev vdpasim_net mtu 9000 </dev/null
	prints "G.C 1: and configures" v dev config show theirs <<'TXT'
theirs: mac 00:00:00:00:00:00 link up link_announce false mtu 9000 
TXT
	prints "G.C 1: and deletes" real dev del theirs </dev/null
	refuses "G.C 1: it is gone" "No such device" v dev show theirs
fi

# ---- A device that a driver has negotiated with ----
mkfifo "$tmp/in" "$tmp/out"
"$userkvm" run -- "$negotiate" "/dev/vhost-vdpa-0" <"$tmp/in" >"$tmp/out" &
driver=$!
exec 8>"$tmp/in" 9<"$tmp/out"
read -r word <&9
[ "$word" = ready ]
ok $? "a driver has the network device"
prints "G.C 1: configuration of a device in use" v dev config show foo <<'TXT'
foo: mac 00:11:22:33:44:55 link up link_announce false mtu 1500 
  negotiated_features MTU MAC CTRL_VQ CTRL_MAC_ADDR ANY_LAYOUT VERSION_1 ACCESS_PLATFORM
TXT
prints "G.C 1: statistics" v dev vstats show foo qidx 0 <<'TXT'
foo: queue_type rx rx packets 0 rx bytes 0 rx drops 0 rx errors 0 rx overruns 0 
TXT
prints "G.C 1: statistics, JSON" v -j dev vstats show foo qidx 1 <<'TXT'
{"vstats":{"foo":{"queue_type":"tx","tx packets":0,"tx bytes":0,"tx errors":0}}}
TXT
refuses "G.C 2: statistics of a queue that is none" "Numerical result out of range" v dev vstats show foo qidx 3
if [ -x /usr/sbin/vdpa ] && [ -z "${USERKVM_SANITIZED:-}" ]; then
	for f in -p -j -jp; do
		same $f dev config show
		same $f dev config show foo
		for q in 0 1 2 3; do
			same $f dev vstats show foo qidx $q
		done
		same $f dev vstats show nic qidx 0
		same $f dev vstats show disk qidx 0
		same $f dev vstats show nobody qidx 0
	done
	same dev vstats show foo
	same dev add name x name foo mgmtdev vdpasim_net
	same dev vstats show
	same dev vstats show foo qidx
	same dev vstats
	same dev add name x mgmtdev vduse
	same dev add name x mgmtdev vduse mtu 1500
	same mgmtdev show vduse
fi
exec 8>&- 9<&-
wait $driver
ok $? "and lets it go"

# ---- A VDUSE network device ----
# started NAME: its daemon says ready.
started() {
	"$userkvm" run -- "$net_daemon" "$1" mtu 1400 >"$tmp/$1.out" 2>"$tmp/$1.err" &
	daemon=$!
	t=0
	while ! grep -q ready "$tmp/$1.out" && kill -0 $daemon 2>/dev/null && [ $t -lt 300 ]; do
		sleep 0.1
		t=$((t + 1))
	done
	cat "$tmp/$1.err" >"$tmp/why"
	grep -q ready "$tmp/$1.out"
}
started vnet
ok $? "G.A 4: a daemon makes a network device"
prints "its device is added" v dev add name vnet mgmtdev vduse </dev/null
refuses "G.A 3: once" "File exists" v dev add name vnet mgmtdev vduse
prints "G.C 1: a VDUSE network device" v dev show vnet <<'TXT'
vnet: type network mgmtdev vduse vendor_id 30059 max_vqs 2 max_vq_size 256
TXT
prints "G.C 1: its configuration" v dev config show vnet <<'TXT'
vnet: mac 52:54:00:12:34:56 link up link_announce false mtu 1400 
TXT
if [ -x /usr/sbin/vdpa ] && [ -z "${USERKVM_SANITIZED:-}" ]; then
	for f in -p -j -jp; do
		same $f dev show vnet
		same $f dev config show vnet
		same $f dev vstats show vnet qidx 0
	done
fi
prints "and deleted" v dev del vnet </dev/null
kill $daemon
wait $daemon
ok $? "its daemon ends with 0"
if command -v setpriv >/dev/null && [ "$(id -u)" = 0 ]; then
	mkdir -m 700 "$tmp/strict"
	(
		export XDG_RUNTIME_DIR="$tmp/strict" VDUSE_NET_ADMIN=capability
		setpriv --inh-caps=-net_admin --bounding-set=-net_admin "$userkvm" run -- "$net_daemon" plain
	) >"$tmp/got" 2>"$tmp/err"
	status=$?
	{ echo "status $status"; cat "$tmp/got" "$tmp/err"; } >"$tmp/why"
	[ $status = 1 ] && grep -q "CREATE_DEV: Operation not permitted" "$tmp/err"
	ok $? "G.A 4: where the hub wants it, network devices need CAP_NET_ADMIN"
	read -r pid <"$tmp/strict/userkvm/hub.lock" && kill "$pid"
fi

# ---- G.C 4: a device in use ----
"$userkvm" run -- sh -c "exec 3<>/dev/vhost-vdpa-1; : >'$tmp/open'; while [ -e '$tmp/open' ]; do sleep 0.05; done" &
client=$!
while [ ! -e "$tmp/open" ]; do sleep 0.05; done
v dev del disk &
del=$!
sleep 0.5
kill -0 $del 2>/dev/null
ok $? "G.C 4: deleting an open device waits"
prints "G.C 4: others are not disturbed" v dev show foo <<'TXT'
foo: type network mgmtdev vdpasim_net vendor_id 0 max_vqs 3 max_vq_size 256
TXT
rm "$tmp/open"
wait $client
wait $del
ok $? "G.C 4: until it is closed"
refuses "G.C 4: then it is gone" "No such device" v dev show disk

# ---- G.C 3: many ----
i=0
while [ $i -lt 200 ]; do
	v dev add name "many$i" mgmtdev vdpasim_blk || break
	i=$((i + 1))
done
[ "$(v dev show | grep -c '^many[0-9]*: type block')" = 200 ]
ok $? "G.C 3: a dump of 200 devices is complete"
(
	j=0
	while [ $j -lt 20 ]; do
		v dev del "many$j"
		v dev add name "more$j" mgmtdev vdpasim_blk
		j=$((j + 1))
	done
) &
churn=$!
bad=0
k=0
while [ $k -lt 20 ]; do
	[ "$(v dev show | grep -c '^many[0-9]*: type block')" -ge 180 ] || bad=1
	k=$((k + 1))
done
wait $churn
ok $bad "G.C 3: dumps while devices come and go"

# ---- Death ----
old=$(hub_pid)
kill -9 "$old"
prints "after the hub was killed there is another" v dev show </dev/null
[ "$(hub_pid)" != "$old" ]
ok $? "which is a new process"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	cp "$userkvm" "$tmp/userkvm.bin"
	chmod 755 "$tmp" "$tmp/userkvm.bin"
	refuses "another user may not see the hub" "Permission denied" \
		setpriv --reuid 65534 --clear-groups "$tmp/userkvm.bin" vdpa dev show
	chmod 777 "$tmp/userkvm"
	chmod 666 "$tmp/userkvm/hub"
	refuses "nor talk to it through an open door" "Permission denied" \
		setpriv --reuid 65534 --clear-groups "$tmp/userkvm.bin" vdpa dev show
	refuses "and a folder that others can write is not trusted" "Permission denied" v dev show
	chmod 700 "$tmp/userkvm"
	prints "its user still can" v dev show </dev/null
fi
pid=$(hub_pid)
t=0
while kill -0 "$pid" 2>/dev/null && [ $t -lt 150 ]; do
	sleep 0.1
	t=$((t + 1))
done
! kill -0 "$pid" 2>/dev/null && [ ! -e "$tmp/userkvm/hub" ]
ok $? "with nothing to do it exits"
echo "1..$n"
exit $failed
