#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The same QEMU and the same guest with -accel kvm under `userkvm run` and with -accel tcg.

usage: tests/bench/clients.py USERKVM [boot|exits|halted|irqfd]...
Prints figures and ratios, medians of three; asserts nothing.
"""
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))
from qemu_vm import GUEST, QEMU, Qemu  # noqa: E402

ACCELERATORS = ("kvm", "tcg")
HALTED_SECONDS = 20


def median(values):
    return sorted(values)[len(values) // 2]


def report(what, unit, figures):
    ours, theirs = figures
    print(f"  {what:<44} {ours:10.2f} {theirs:10.2f} {unit:<10} {ours / theirs if theirs else 0:6.2f}", flush=True)


def initrd(userkvm, folder, command=None):
    path = os.path.join(folder, "initrd")
    subprocess.run([userkvm, "initrd", "-o", path] + (["--run", command] if command else []), check=True)
    return ["-kernel", os.path.join(GUEST, "vmlinuz"), "-initrd", path,
            "-append", "console=ttyS0 panic=-1 quiet cryptomgr.notests"]


def cpu_seconds(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   timeout=600, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def command_line(userkvm, accel, args):
    """Under `userkvm run` both: what the preload object costs TCG is nothing, and it is one command line."""
    return [userkvm, "run", "--", QEMU, "-accel", accel, "-display", "none", "-nodefaults", "-no-reboot", *args]


def boot(userkvm, folder):
    kernel = initrd(userkvm, folder, "true")
    args = ["-machine", "q35", "-cpu", "max", "-m", "512M", "-serial", "stdio", *kernel]
    report("boot to a command and power-off", "CPU s",
           [median([cpu_seconds(command_line(userkvm, a, args)) for _ in range(3)]) for a in ACCELERATORS])


# Real mode from the reset vector: ECX times one access, then the end by isa-debug-exit.
def rom(access, count):
    loop = access + b"\x66\x49"					# dec ecx
    code = b"\xb8\x00\xa0\x8e\xc0\x66\xb9" + struct.pack("<I", count)	# ES = A000, ECX
    code += loop + b"\x75" + struct.pack("b", -len(loop) - 2) + b"\xe6\xf4\xf4"
    return code.ljust(0xfff0, b"\xf4") + b"\xea\0\0\0\xf0".ljust(16, b"\xf4")


def exits(userkvm, folder):
    count = 300000
    for what, access in (("port write that QEMU answers", b"\xe6\x80"), ("MMIO read that QEMU answers", b"\x26\xa0\0\0")):
        figures = []
        for accel in ACCELERATORS:
            spent = []
            for n in (1, count):
                path = os.path.join(folder, "rom")
                with open(path, "wb") as f:
                    f.write(rom(access, n))
                args = ["-machine", "pc", "-m", "16M", "-vga", "std", "-bios", path,
                        "-device", "isa-debug-exit,iobase=0xf4"]
                spent.append(median([cpu_seconds(command_line(userkvm, accel, args)) for _ in range(3)]))
            figures.append((spent[1] - spent[0]) / count * 1e6)
        report(what, "CPU us", figures)


def halted(userkvm, folder):
    kernel = initrd(userkvm, folder)
    figures = []
    for accel in ACCELERATORS:
        with Qemu(userkvm, folder, "halted-" + accel, ["-machine", "q35", "-cpu", "max", "-m", "256M"], accel=accel,
                  kernel_args=kernel) as q:
            q.wait_for("userkvm: Linux", 300)
            time.sleep(5)
            before = q.cpu_seconds()
            time.sleep(HALTED_SECONDS)
            figures.append((q.cpu_seconds() - before) / HALTED_SECONDS * 100)
    report("idle Linux guest, 1 processor", "% of a CPU", figures)


def irqfd(userkvm, folder):
    """Kick by ioeventfd, completion by MSI-X through irqfd, one request at a time."""
    count = 3000
    disk = os.path.join(folder, "disk")
    with open(disk, "wb") as f:
        f.truncate(16 << 20)
    read = f"dd if=/dev/vda of=/dev/null bs=512 count={count} iflag=direct 2>/dev/null"
    kernel = initrd(userkvm, folder, f"{read}; a=$(cut -d' ' -f1 /proc/uptime); {read}; {read}; "
                                     f"echo times $a $(cut -d' ' -f1 /proc/uptime).")
    figures = []
    for accel in ACCELERATORS:
        taken = []
        for _ in range(3):
            with Qemu(userkvm, folder, "irqfd-" + accel, ["-machine", "q35", "-cpu", "max", "-m", "256M",
                      "-drive", f"file={disk},format=raw,if=none,id=d", "-object", "iothread,id=t",
                      "-device", "virtio-blk-pci,drive=d,iothread=t"], accel=accel, kernel_args=kernel) as q:
                q.wait_for("times ", 300)
                q.wait_for("exit 0", 60)
                start, end = q.text.split(b"times ")[1].split(b"\r\n")[0].rstrip(b".").split()
                taken.append((float(end) - float(start)) / (2 * count) * 1e6)
        figures.append(median(taken))
    report("virtio-blk read of 512 bytes, to and fro", "us", figures)


PARTS = {"boot": boot, "exits": exits, "halted": halted, "irqfd": irqfd}


def main():
    userkvm, parts = os.path.abspath(sys.argv[1]), sys.argv[2:] or list(PARTS)
    print(f"  {'QEMU 7.2, the same guest':<44} {'userkvm':>10} {'TCG':>10} {'':<10} {'ratio':>6}")
    for part in parts:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            PARTS[part](userkvm, folder)


if __name__ == "__main__":
    main()
