#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Debian's QEMU with -accel kvm under `userkvm run`: usage: qemu.sh USERKVM
# Boots the default guest on several machines; skips where QEMU or the guest is
# not there. Replay: tests/shim/qemu.sh build/userkvm
set -u
userkvm=$1
guest=${XDG_CACHE_HOME:-$HOME/.cache}/userkvm/guest/current
qemu=$(command -v qemu-system-x86_64) || { echo "1..0 # SKIP no qemu-system-x86_64"; exit 0; }
[ -r "$guest/vmlinuz" ] || { echo "1..0 # SKIP no guest: scripts/fetch-guest"; exit 0; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$userkvm" initrd -o "$tmp/initrd" --run 'echo guest-is-alive; dd if=/dev/vda bs=512 count=1 2>/dev/null
ls /sys/class/net' || { echo "Bail out! no initrd"; exit 1; }
printf 'disk-is-read\n' >"$tmp/disk"
truncate -s 1M "$tmp/disk"
n=0

# boots NAME ARGS...: to the command of the initrd and to power-off.
boots() {
	name=$1
	shift
	n=$((n + 1))
	timeout -k 5 150 "$userkvm" run -- "$qemu" -accel kvm -m 256M -kernel "$guest/vmlinuz" \
		-initrd "$tmp/initrd" -nographic -no-reboot -append 'console=ttyS0 panic=-1 quiet' \
		-drive "file=$tmp/disk,format=raw,if=none,id=d" "$@" </dev/null >"$tmp/out" 2>"$tmp/err"
	status=$?
	if [ $status = 0 ] && grep -q guest-is-alive "$tmp/out" && grep -q disk-is-read "$tmp/out"; then
		echo "ok $n - $name"
	else
		echo "not ok $n - $name # exit $status"
		tail -n 15 "$tmp/out" | sed 's/^/# /'
		sed 's/^/# /' "$tmp/err"
	fi
}

echo 1..4
boots 'pc, full irqchip' -machine pc -cpu host -device virtio-blk-pci,drive=d
boots 'pc, split irqchip' -machine pc,kernel-irqchip=split -cpu max -device virtio-blk-pci,drive=d
boots 'q35, 2 processors' -machine q35 -cpu max -smp 2 -device virtio-blk-pci,drive=d \
	-nic user,model=virtio-net-pci
# Its window for PCI lies at the top of the processor's physical addresses.
boots 'microvm with PCIe' -machine microvm,pcie=on -cpu max,host-phys-bits-limit=46 \
	-device virtio-blk-pci,drive=d
