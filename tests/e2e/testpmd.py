#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Unmodified DPDK testpmd on a vhost-vdpa node under `userkvm run`; TAP.

usage: tests/e2e/testpmd.py USERKVM PACKETS

Its virtio-user driver opens the node of a vdpasim_net device, which loops
packets back; testpmd sends each one out again as it comes. Nothing may be lost:
in the end the packets sent and those received differ by what was put in at
first. Then the port is stopped and started, which resets the device and maps
all memory anew. Skips without scripts/fetch-dpdk. Acceptance test G.B 2.
"""
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "userkvm/dpdk")
TESTPMD = os.path.join(ROOT, "usr/bin/dpdk-testpmd")
LIB = os.path.join(ROOT, "usr/lib/x86_64-linux-gnu")
MAC = "52:54:00:12:34:56"
BURST = 64


class Failure(Exception):
    pass


class Testpmd:
    def __init__(self, userkvm):
        self.log = []
        self.lines = queue.Queue()
        # A terminal, or the C library keeps its lines back.
        master, slave = os.openpty()
        self.out = os.fdopen(master, errors="replace")
        self.p = subprocess.Popen(
            [userkvm, "run", "--", TESTPMD, "-d", f"{LIB}/librte_net_virtio.so.23", "-d",
             f"{LIB}/librte_mempool_ring.so.23", "-l", "0,1", "--no-huge", "-m", "256", "--no-pci", "--no-telemetry",
             "--no-shconf", "--iova-mode=va", "--vdev=net_virtio_user0,path=/dev/vhost-vdpa-0", "--", "-i",
             "--total-num-mbufs=2048", f"--burst={BURST}", "--forward-mode=io", f"--eth-peer=0,{MAC}"],
            stdin=subprocess.PIPE, stdout=slave, stderr=slave, text=True, bufsize=1,
            env={**os.environ, "LD_LIBRARY_PATH": LIB})
        os.close(slave)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for line in self.out:
                self.lines.put(line)
        except OSError:
            pass    # how a terminal says that nobody is left
        self.lines.put(None)

    def say(self, command):
        self.p.stdin.write(command + "\n")
        self.p.stdin.flush()

    def expect(self, pattern, seconds):
        end = time.monotonic() + seconds
        while True:
            try:
                line = self.lines.get(timeout=max(end - time.monotonic(), 0.01))
            except queue.Empty:
                raise Failure(f"no {pattern!r} within {seconds} s") from None
            if line is None:
                raise Failure(f"testpmd ended before {pattern!r}")
            self.log.append(line)
            m = re.search(pattern, line)
            if m:
                return m

    def port_count(self, seconds=60):
        self.say("show port stats 0")
        rx = int(self.expect(r"RX-packets: (\d+) +RX-missed: 0 ", seconds)[1])
        tx = int(self.expect(r"TX-packets: (\d+) +TX-errors: 0 ", seconds)[1])
        return rx, tx

    def forward(self, packets, seconds):
        """Start, let @packets pass, stop: how many came, and at what rate."""
        first, start = self.port_count()[0], time.monotonic()
        self.say("start tx_first")
        while self.port_count()[0] - first < packets:
            if time.monotonic() - start > seconds:
                raise Failure(f"{self.port_count()[0] - first} of {packets} packets in {seconds} s")
            time.sleep(0.2)
        took = time.monotonic() - start
        self.say("stop")
        rx = int(self.expect(r"RX-packets: (\d+) +RX-dropped: 0 ", 60)[1])
        tx = int(self.expect(r"TX-packets: (\d+) +TX-dropped: 0 ", 60)[1])
        # What was put in at first is on its way for ever.
        if tx - rx != BURST:
            raise Failure(f"{tx} sent, {rx} received: {tx - rx - BURST} lost")
        return rx, rx / took

    def quit(self):
        self.say("quit")
        if self.p.wait(60):
            raise Failure(f"testpmd ends with {self.p.returncode}")


def run(userkvm, packets, results):
    pmd = Testpmd(userkvm)
    try:
        pmd.expect(rf"^Port 0: {MAC}", 60)
        pmd.expect("^Done", 60)
        n, rate = pmd.forward(packets, 3600)
        results.append(f"G.B 2: {packets} packets through vdpasim_net, none lost\n# {n} packets, {rate / 1e3:.0f} k/s")
        for command in "port stop 0", "port start 0":
            pmd.say(command)
            pmd.expect("^Done", 60)
        n, _ = pmd.forward(packets // 10, 600)
        results.append("G.B 2: and again, after the port was stopped and started")
        pmd.quit()
        results.append("G.B 2: it ends with 0")
    except Failure:
        pmd.p.kill()
        sys.stdout.writelines(f"# {line}" for line in pmd.log[-40:])
        raise


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    userkvm, packets = os.path.realpath(sys.argv[1]), int(sys.argv[2])
    if not os.access(TESTPMD, os.X_OK):
        print("1..0 # SKIP scripts/fetch-dpdk has not been run")
        return 0
    results, why = [], None
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        with subprocess.Popen([userkvm, "vdpa", "hub", "--idle", "0"]) as hub:
            try:
                subprocess.run([userkvm, "vdpa", "dev", "add", "name", "net0", "mgmtdev", "vdpasim_net", "mac", MAC],
                               check=True, timeout=60)
                run(userkvm, packets, results)
                # Deleting an open device would wait.
                subprocess.run([userkvm, "vdpa", "dev", "del", "net0"], check=True, timeout=60)
                results.append("G.B 2: the node is free again")
            except (Failure, subprocess.SubprocessError) as e:
                why = e
            hub.kill()
    for i, r in enumerate(results, 1):
        print(f"ok {i} - {r}")
    if why:
        print(f"not ok {len(results) + 1} - G.B 2 # {why}")
    print(f"1..{len(results) + bool(why)}")
    return bool(why)


if __name__ == "__main__":
    sys.exit(main())
