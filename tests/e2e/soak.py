#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Two QEMUs of two processors each under disk and network load, side by side; TAP.

usage: tests/e2e/soak.py USERKVM [SECONDS]    (1800)

Each guest writes random data to its disk, reads it back past its cache, fetches
a file from the host, and compares everything, in both processors at once. The
test fails on any difference, on any warning of the guest's kernel, and when a
guest makes no progress in the time that it is given: on a busy machine that is
less than the clock's.
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

SILENCE = 300	# seconds without a round, of those that the machine gives
LONGEST = 3600	# and by the clock, however little that is

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


def waited(pid):
    """Of each thread: seconds that it was ready to run and another had the processor."""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{tid}/schedstat", encoding="ascii") as f:
            found[tid] = int(f.read().split()[1]) / 1e9
    return found


class Watch:
    """A machine, the time that it was given, and what it did in it."""

    def __init__(self, q, disk):
        self.q, self.disk = q, disk
        self.at = self.started = time.monotonic()
        self.given = self.processor = 0
        self.waits = {}
        self.seen = {what: (0, 0, self.at) for what in ("disk", "net")}
        self.longest = 0

    def pass_time(self):
        """The clock's, less what the thread that waited most has waited: that one may be who is missed."""
        now = time.monotonic()
        waits = {}
        with contextlib.suppress(OSError):
            waits = waited(self.q.process.pid)
            self.processor = self.q.cpu_seconds()
        most = max((t - self.waits[tid] for tid, t in waits.items() if tid in self.waits), default=0)
        self.given += max(0, now - self.at - most)
        self.waits, self.at = waits, now

    def overdue(self, given, at, what):
        if self.given - given > SILENCE or self.at - at > LONGEST:
            raise Failure(f"{self.q.name}: {what} in {self.at - at:.0f} s, of which it was given "
                          f"{self.given - given:.0f}; {self.q.text[-300:]!r}")

    def look(self):
        """Every load goes on."""
        self.pass_time()
        if b"BAD" in self.q.text or self.q.process.poll() is not None:
            raise Failure(f"{self.q.name}: {self.q.text[-500:]!r} {self.q.stderr()}")
        for what, (last, given, at) in self.seen.items():
            now = rounds(self.q, what)
            self.longest = max(self.longest, self.at - at)
            if now > last:
                self.seen[what] = now, self.given, self.at
            else:
                self.overdue(given, at, f"no {what} round after {last}")

    def expect(self, what, done):
        given, at = self.given, self.at
        while not done(self.q):
            time.sleep(0.2)
            self.pass_time()
            self.overdue(given, at, f"waited for {what}")

    def __str__(self):
        return (f"{self.q.name}: {rounds(self.q, 'disk')} MiB of disk, {rounds(self.q, 'net')} files, "
                f"{self.processor:.0f} s of processor, given {100 * self.given / (self.at - self.started):.0f} %, "
                f"{self.longest:.0f} s without a round at most")


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
        watched = []
        for name, machine in (("pc", "pc"), ("q35", "q35")):
            disk = os.path.join(folder, name + ".disk")
            with open(disk, "wb") as f:
                f.truncate(32 << 20)
            args = ["-machine", machine, "-cpu", "max", "-smp", "2", "-m", "192M",
                    "-drive", f"file={disk},format=raw,if=none,id=d",
                    "-device", "virtio-blk-pci,drive=d", "-netdev", "user,id=n",
                    "-device", "virtio-net-pci,netdev=n", "-kernel", os.path.join(GUEST, "vmlinuz"),
                    "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet"]
            watched.append(Watch(stack.enter_context(Qemu(userkvm, folder, name, args)), disk))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for w in watched:
                w.look()
            time.sleep(1)
        for w in watched:
            with open(w.disk, "r+b") as f:
                f.seek(65535 * 512)
                f.write(b"stop")
        said = []
        for w in watched:
            w.expect("its load to end", lambda q: b"load-is-over" in q.text)
            w.expect("QEMU to end", lambda q: q.process.poll() is not None)
            w.q.wait_end()
            if b"BAD" in w.q.text:
                raise Failure(f"{w.q.name}: {re.findall(rb'BAD.*', w.q.text)[:10]}")
            said.append(str(w))
        return ", ".join(said)


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
