#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Unmodified QEMU with -netdev type=vhost-vdpa under `userkvm run`, and our own machine with -n vdpa:; TAP.

usage: tests/e2e/vhost_vdpa.py USERKVM RECORDER NET_DAEMON SCENARIO...

RECORDER is the object made of vhost_record.c, NET_DAEMON a VDUSE network daemon
with a host behind it that answers pings. On other parents the guest pings itself over a
network card in loopback: policy routing sends what is for its second address
out and takes it in again. Skips where QEMU, vdpa(8) or the default guest is
not there. Each scenario has a hub of its own. Acceptance tests G.B 1, 9.
"""
import contextlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

from qemu_vm import GUEST, QEMU, Failure, Qemu

MAC = "52:54:00:12:34:56"
PING = """cd /sys/class/net; mac=$(cat eth0/address); ip addr flush dev eth0; ip link set lo up; ip link set eth0 up;
ip addr add 10.9.0.1/24 dev eth0; ip addr add 10.9.0.2/32 dev lo; cd /proc/sys/net/ipv4/conf;
for i in all eth0; do echo 1 >$i/accept_local; echo 0 >$i/rp_filter; done;
ip rule add pref 10 lookup local; ip rule del pref 0; ip rule add pref 5 iif lo to 10.9.0.2 lookup 100;
ip rule add pref 6 iif lo from 10.9.0.2 lookup 100; ip route add 10.9.0.0/24 dev eth0 table 100;
echo mac=$mac carrier=$(cat /sys/class/net/eth0/carrier); ping -c 20 -i 0.1 -W 5 -I 10.9.0.1 10.9.0.2;
ping -c 5 -i 0.1 -s 1400 -W 5 -I 10.9.0.1 10.9.0.2; echo received=$(cat /sys/class/net/eth0/statistics/rx_packets)"""

FAR = """cd /sys/class/net/eth0; ip addr flush dev eth0; ip link set eth0 up; ip addr add 10.9.0.1/24 dev eth0;
echo mac=$(cat address) carrier=$(cat carrier) mtu=$(cat mtu); ping -c 20 -i 0.1 -W 5 10.9.0.2;
ping -c 5 -i 0.1 -s 1400 -W 5 10.9.0.2; echo done"""

# What QEMU 7.2 calls, repetitions taken out: reference for the node, not for QEMU.
REALIZE = ["GET_FEATURES", "VDPA_GET_IOVA_RANGE", "VDPA_GET_STATUS 0", "VDPA_SET_STATUS 3", "VDPA_GET_STATUS 3",
           "SET_OWNER", "GET_FEATURES", "SET_VRING_CALL", "VDPA_GET_DEVICE_ID"]
QUEUE = ["SET_VRING_NUM", "SET_VRING_BASE", "SET_VRING_ADDR", "SET_VRING_KICK"]
START = ["SET_VRING_CALL", "SET_FEATURES", "VDPA_GET_STATUS 3", "VDPA_SET_STATUS 11", "VDPA_GET_STATUS 11",
         "GET_BACKEND_FEATURES", "SET_BACKEND_FEATURES 6", *QUEUE, *QUEUE, "VDPA_SET_VRING_ENABLE"]
MAPPED = ["BATCH_BEGIN", "UPDATE", "BATCH_END", "VDPA_GET_STATUS 11", "VDPA_SET_STATUS 15",
          "VDPA_GET_STATUS 15"]
STOP = ["VDPA_SET_STATUS 0", "VDPA_GET_STATUS 0", "VDPA_SET_STATUS 3", "VDPA_GET_STATUS 3", "BATCH_BEGIN",
        "INVALIDATE", "BATCH_END"]


def expect(what, condition):
    if not condition:
        raise Failure(what)


class Bench:
    def __init__(self, userkvm, recorder, net_daemon, folder):
        self.userkvm, self.recorder, self.net_daemon, self.folder = userkvm, recorder, net_daemon, folder
        os.environ["XDG_RUNTIME_DIR"] = folder

    def vdpa(self, *words):
        r = subprocess.run([self.userkvm, "run", "--", "vdpa", *words], capture_output=True, text=True, timeout=60,
                           check=False)
        if r.returncode:
            raise Failure(f"vdpa {' '.join(words)}: {r.returncode}: {r.stderr.strip()}")
        return r.stdout

    def qemu(self, name, *args, before=()):
        return Qemu(self.userkvm, self.folder, name,
                    ["-m", "256M", "-netdev", "type=vhost-vdpa,vhostdev=/dev/vhost-vdpa-0,id=n", "-device",
                     f"virtio-net-pci,netdev=n,iommu_platform=on,disable-legacy=on,mac={MAC},page-per-vq=on,romfile=",
                     *args], before=before)

    @contextlib.contextmanager
    def vduse(self, *words):
        """A network device of a daemon, on the bus; yields what the daemon has counted, once it has ended."""
        counted = {}
        with subprocess.Popen([self.userkvm, "run", "--", self.net_daemon, "net0", *words], stdout=subprocess.PIPE,
                              text=True) as daemon:
            try:
                expect("the daemon does not start", daemon.stdout.readline() == "ready\n")
                self.vdpa("dev", "add", "name", "net0", "mgmtdev", "vduse")
                yield counted
                self.vdpa("dev", "del", "net0")
                daemon.terminate()
                text, _ = daemon.communicate(timeout=30)
                expect(f"the daemon ended with {daemon.returncode}", daemon.returncode == 0)
                counted.update((k, int(v)) for k, v in re.findall(r"(\w+) (\d+)", text))
            finally:
                daemon.kill()

    def hub_ends(self):
        """With neither device nor client the hub goes away by itself."""
        sock = os.path.join(self.folder, "userkvm", "hub")
        end = time.monotonic() + 30
        while os.path.exists(sock):
            expect("the hub does not end", time.monotonic() < end)
            time.sleep(0.2)


SHARED = ["-object", "memory-backend-memfd,id=m,size=256M,share=on", "-machine", "memory-backend=m"]


def recorded(path):
    with open(path, encoding="ascii") as f:
        calls = [line.split(" = ") for line in f.read().splitlines()]
    for call, ret in calls:
        expect(f"{call} returned {ret}", int(ret) >= 0)
    return [call for call, _ in calls]


def in_order(calls, *wanted):
    """Each list in @wanted is found as a whole, behind the one before."""
    at = 0
    for w in wanted:
        while calls[at:at + len(w)] != w:
            at += 1
            expect(f"not called in this order: {w}; calls were {calls}", at < len(calls))
        at += len(w)


def ping(parent, memory, doorbell, mac=MAC):
    def scenario(b):
        b.vdpa("dev", "add", "name", "net0", "mgmtdev", parent)
        initrd, record = os.path.join(b.folder, "initrd"), os.path.join(b.folder, "record")
        subprocess.run([b.userkvm, "initrd", "-o", initrd, "--run", PING.replace("\n", " ")], check=True)
        os.environ["VHOST_RECORD"] = record
        # The recorder has to stand before userkvm's object, which `run` puts first.
        runner = ["env", f"LD_PRELOAD={b.recorder}:{os.path.join(os.path.dirname(b.userkvm), 'libuserkvm.so')}"]
        with b.qemu("q", *memory, "-kernel", os.path.join(GUEST, "vmlinuz"), "-initrd", initrd,
                    "-append", "console=ttyS0 panic=-1 quiet", before=runner) as q:
            q.wait_end(300)
            text = q.text.decode(errors="replace")
        expect(f"no link: {text[-800:]}", f"mac={mac} carrier=1" in text)
        expect(f"packets lost: {text[-800:]}", text.count(" 0% packet loss") == 2)
        # There and back, two frames each.
        count = re.search(r"received=(\d+)", text)
        expect(f"not over the card: {text[-300:]}", count and int(count.group(1)) >= 50)
        calls = recorded(record)
        expect("the wrong kind of kicks", doorbell in calls)
        calls = [c for c, _ in itertools.groupby(c for c in calls if "DOORBELL" not in c)]
        in_order(calls, REALIZE, ["VDPA_SET_CONFIG"], START, MAPPED, STOP)
        b.vdpa("dev", "del", "net0")
        b.hub_ends()
    return scenario


def far_host(text, counted):
    expect(f"no link: {text[-800:]}", f"mac={MAC} carrier=1" in text)
    expect(f"packets lost: {text[-800:]}", text.count(" 0% packet loss") == 2)
    expect(f"not answered there: {counted}", counted["ping"] == 25 and counted["lost"] == 0 and counted["arp"] >= 1)


def vduse(*words):
    """A network device whose data path is a program of ours: pings to the host behind it."""
    def scenario(b):
        initrd = os.path.join(b.folder, "initrd")
        subprocess.run([b.userkvm, "initrd", "-o", initrd, "--run", FAR.replace("\n", " ")], check=True)
        with b.vduse(*words) as counted:
            with b.qemu("q", *SHARED, "-kernel", os.path.join(GUEST, "vmlinuz"), "-initrd", initrd,
                        "-append", "console=ttyS0 panic=-1 quiet") as q:
                q.wait_end(300)
                text = q.text.decode(errors="replace")
        far_host(text, counted)
        b.hub_ends()
    return scenario


def boot(*words):
    """The same in our own machine, over the driver of in-process consumers."""
    def scenario(b):
        with b.vduse(*words) as counted:
            r = subprocess.run([b.userkvm, "boot", "-n", "vdpa:net0", "--run", FAR.replace("\n", " ")],
                               capture_output=True, text=True, timeout=300, check=False)
        expect(f"status {r.returncode}: {r.stderr}", r.returncode == 0 and not r.stderr)
        expect(f"the wrong MTU: {r.stdout}", f"mtu={words[-1] if 'mtu' in words else 1500}" in r.stdout)
        far_host(r.stdout, counted)
        b.hub_ends()
    return scenario


def release(b):
    """Quit and SIGKILL give the node back; while one has it another is refused."""
    b.vdpa("dev", "add", "name", "net0", "mgmtdev", "vdpasim_net", "mac", MAC)
    for number, end in enumerate(["kill", "quit", "kill", "quit"]):
        with b.qemu(f"q{number}", "-S") as q:
            expect("the wrong state", q.qmp("query-status")["status"] == "prelaunch")
            with b.qemu(f"second{number}", "-S") as second:
                second.wait_end(60, 1)
                expect(f"no EBUSY: {second.stderr()}", "busy" in second.stderr())
            if end == "quit":
                q.qmp("quit")
                q.wait_end(60)
    b.vdpa("dev", "del", "net0")
    b.hub_ends()


def reset(b):
    """A machine that is reset takes the device through its sequence again."""
    b.vdpa("dev", "add", "name", "net0", "mgmtdev", "vdpasim_net")
    initrd = os.path.join(b.folder, "initrd")
    subprocess.run([b.userkvm, "initrd", "-o", initrd], check=True)
    with b.qemu("q", "-kernel", os.path.join(GUEST, "vmlinuz"), "-initrd", initrd, "-action", "reboot=reset",
                "-append", "console=ttyS0 panic=-1 quiet") as q:
        at = 0
        for _ in range(2):
            at = q.wait_for("userkvm: Linux", 200, at)
            at = q.type("echo carrier=$(cat /sys/class/net/eth0/carrier)")
            at = q.wait_for("carrier=1", 60, at)
            q.qmp("system_reset")
        q.qmp("quit")
        q.wait_end(60)
    b.vdpa("dev", "del", "net0")
    b.hub_ends()


SCENARIOS = {
    # QEMU's memory is private: the simulator copies from process to process.
    "private": ping("vdpasim_net", [], "NO DOORBELL"),
    "shared": ping("vdpasim_net", SHARED, "NO DOORBELL"),
    # Rings in the hardware of a simulated function; the guest stores to its mapped doorbells.
    "card": ping("pci/0000:01:00.0", SHARED, "DOORBELL", "02:1f:cf:00:00:01"),
    "vduse": vduse(),
    "vduse-api1": vduse("api1", "mergeable"),
    "boot": boot("api1", "mergeable", "mtu", "9000"),
    "release": release,
    "reset": reset,
}


def run(userkvm, recorder, net_daemon, number, name):
    with tempfile.TemporaryDirectory(prefix="vhost-vdpa-") as folder:
        started = time.monotonic()
        try:
            SCENARIOS[name](Bench(userkvm, recorder, net_daemon, folder))
        except (Failure, OSError, subprocess.SubprocessError) as why:
            print(f"not ok {number} - G.B 1: {name}", flush=True)
            for line in str(why).splitlines():
                print("# " + line)
            return False
    print(f"ok {number} - G.B 1: {name} ({time.monotonic() - started:.0f} s)", flush=True)
    return True


def main():
    paths, words = [os.path.abspath(p) for p in sys.argv[1:4]], sys.argv[4:] or list(SCENARIOS)
    if not shutil.which(QEMU) or not shutil.which("vdpa") or not os.path.exists(os.path.join(GUEST, "vmlinuz")):
        print("1..0 # SKIP no QEMU, no vdpa(8), or no default guest: run scripts/fetch-guest")
        return 0
    print(f"1..{len(words)}", flush=True)
    return 0 if all([run(*paths, i, w) for i, w in enumerate(words, 1)]) else 1


if __name__ == "__main__":
    sys.exit(main())
