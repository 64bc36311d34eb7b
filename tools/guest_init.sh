#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# First program of the default guest: set up the machine, then run /userkvm/run or a shell.
#
# With a command (userkvm boot --run) the machine has two more serial ports: what the command prints
# goes to ttyS1, and its exit status to ttyS2 as one line "exit N", which ends the machine. Without
# them (another machine, as in QEMU) both go to the console. BusyBox's shell runs its applets by itself,
# through /proc/self/exe, so no links are needed once /proc is there.
export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root TERM="${TERM:-linux}"

/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /tmp /run /root /mnt
mount -t devpts devpts /dev/pts
hostname userkvm

while read -r m; do
	insmod "$m" || echo "init: cannot load $m" >&2
done </userkvm/modules

cmdline=$(cat /proc/cmdline)
arg() {
	for word in $cmdline; do
		case $word in "$1="*) echo "${word#*=}" ;; esac
	done | tail -n 1
}

ip link set lo up
if [ -d /sys/class/net/eth0 ]; then
	ip link set eth0 up
	udhcpc -q -n -t 5 -T 1 -i eth0 -s /userkvm/dhcp >/dev/null 2>&1 ||
		echo "init: no address by DHCP on eth0" >&2
fi

# A root on disk takes over, with its own init.
root=$(arg root)
if [ -n "$root" ] && [ ! -f /userkvm/run ]; then
	init=$(arg init)
	if mount -o ro -t "$(arg rootfstype | grep . || echo auto)" "$root" /mnt; then
		case " $cmdline " in *" rw "*) mount -o remount,rw /mnt ;; esac
		for fs in proc sys dev; do
			mount --move /$fs /mnt/$fs
		done
		exec switch_root /mnt "${init:-/sbin/init}"
	fi
	echo "init: cannot mount root=$root, here is a shell instead" >&2
fi

if [ -f /userkvm/run ]; then
	out=/dev/console
	status=/dev/console
	# The driver makes all its ports; one without hardware says so.
	if grep -q '^2: uart:1' /proc/tty/driver/serial; then
		out=/dev/ttyS1
		status=/dev/ttyS2
		stty -F $out raw -echo
		stty -F $status raw -echo
	fi
	sh /userkvm/run </dev/null >$out 2>&1
	rc=$?
	sync
	# stty waits until all output has left.
	stty -F $out -echo
	echo "exit $rc" >$status
else
	echo
	echo "userkvm: $(uname -sr), $(nproc) CPU(s). 'exit' or Ctrl-D powers off; Ctrl-A x leaves at once."
	setsid cttyhack sh -l
	sync
fi
poweroff -f
