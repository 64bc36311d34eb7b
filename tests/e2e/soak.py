#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Two QEMUs of two processors each under disk and network load, side by side; TAP.

usage: tests/e2e/soak.py USERKVM [SECONDS]    (1800)

Each guest writes random data to its disk, reads it back past its cache, fetches
a file from the host, and compares everything, in both processors at once. The
test fails on any difference, on any warning of the guest's kernel, and when a
guest makes no progress.
"""
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

from qemu_vm import GUEST, QEMU, Failure, Qemu

SILENCE = 300	# seconds without a round

LOAD = r"""
mkdir -p /tmp
disk() {
	n=0
	while [ ! -e /tmp/stop ]; do
		head -c 1048576 /dev/urandom >/tmp/d
		at=$((n % 30))
		dd if=/tmp/d of=/dev/vda bs=1M seek=$at conv=notrunc,fsync 2>/dev/null
		echo 3 >/proc/sys/vm/drop_caches
		dd if=/dev/vda bs=1M skip=$at count=1 2>/dev/null | cmp -s - /tmp/d || echo "BAD disk $n"
		n=$((n + 1)); echo "disk-round $n."
	done
}
net() {
	n=0
	while [ ! -e /tmp/stop ]; do
		got=$(wget -q -O - http://10.0.2.2:PORT/file | sha256sum | cut -d" " -f1)
		[ "$got" = DIGEST ] || echo "BAD net $n $got"
		n=$((n + 1)); echo "net-round $n."
	done
}
disk & net &
# The host says when, by the disk's last sector.
while :; do
	sleep 2
	[ "$(dd if=/dev/vda iflag=direct bs=512 skip=65535 count=1 2>/dev/null | head -c 4)" = stop ] && break
done
touch /tmp/stop; wait
dmesg -r | grep -E "^<[0-3]>|Oops|BUG:|soft lockup|stall" | sed "s/^/BAD kernel: /"
echo load-is-over
"""


def rounds(q, what):
    found = re.findall(what.encode() + rb"-round (\d+)\.", q.text)
    return int(found[-1]) if found else 0


def soak(userkvm, folder, seconds):
    data = os.urandom(2 << 20)
    with open(os.path.join(folder, "file"), "wb") as f:
        f.write(data)
    with contextlib.ExitStack() as stack:
        server = subprocess.Popen([sys.executable, "-u", "-m", "http.server", "-d", folder, "-b", "127.0.0.1", "0"],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        stack.callback(server.wait)
        stack.callback(server.kill)
        port = re.search(rb"port (\d+)", server.stdout.readline())[1].decode()
        initrd = os.path.join(folder, "initrd")
        command = LOAD.replace("PORT", port).replace("DIGEST", hashlib.sha256(data).hexdigest())
        subprocess.run([userkvm, "initrd", "-o", initrd, "--run", command], check=True)
        machines = []
        for name, machine in (("pc", "pc"), ("q35", "q35")):
            disk = os.path.join(folder, name + ".disk")
            with open(disk, "wb") as f:
                f.truncate(32 << 20)
            args = ["-machine", machine, "-cpu", "max", "-smp", "2", "-m", "192M",
                    "-drive", f"file={disk},format=raw,if=none,id=d",
                    "-device", "virtio-blk-pci,drive=d", "-netdev", "user,id=n",
                    "-device", "virtio-net-pci,netdev=n", "-kernel", os.path.join(GUEST, "vmlinuz"),
                    "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet"]
            machines.append((stack.enter_context(Qemu(userkvm, folder, name, args)), disk))
        watch([q for q, _ in machines], seconds)
        for _, disk in machines:
            with open(disk, "r+b") as f:
                f.seek(65535 * 512)
                f.write(b"stop")
        said = []
        for q, _ in machines:
            q.wait_for("load-is-over", SILENCE)
            q.wait_end(SILENCE)
            said.append(f"{q.name}: {rounds(q, 'disk')} MiB of disk, {rounds(q, 'net')} files")
            if b"BAD" in q.text:
                raise Failure(f"{q.name}: {re.findall(rb'BAD.*', q.text)[:10]}")
        return ", ".join(said)


def watch(machines, seconds):
    """Until the time is over: every load of every machine goes on."""
    end = time.monotonic() + seconds
    seen = {}
    while time.monotonic() < end:
        for q in machines:
            if b"BAD" in q.text or q.process.poll() is not None:
                raise Failure(f"{q.name}: {q.text[-500:]!r} {q.stderr()}")
            for what in ("disk", "net"):
                now = rounds(q, what)
                last = seen.setdefault((q.name, what), (0, time.monotonic()))
                if now > last[0]:
                    seen[q.name, what] = now, time.monotonic()
                elif time.monotonic() - last[1] > SILENCE:
                    raise Failure(f"{q.name}: no {what} round after {now} for {SILENCE} s; {q.text[-300:]!r}")
        time.sleep(1)


def main():
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 1800
    if not shutil.which(QEMU) or not os.path.exists(os.path.join(GUEST, "vmlinuz")):
        print("1..0 # SKIP no QEMU, or no default guest: run scripts/fetch-guest")
        return 0
    print("1..1", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        try:
            print(f"ok 1 - {seconds} s: {soak(os.path.abspath(sys.argv[1]), folder, seconds)}")
        except (Failure, OSError, subprocess.SubprocessError) as why:
            print("not ok 1 - soak\n# " + str(why).replace("\n", "\n# "))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
