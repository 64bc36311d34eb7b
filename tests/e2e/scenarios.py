#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Unmodified QEMU under `userkvm run`, one scenario after the other; TAP.

usage: tests/e2e/scenarios.py USERKVM SCENARIO[=COUNT]...

A scenario is a function; COUNT is what it repeats, where it repeats something.
Skips as a whole where QEMU or the default guest is not there, and a scenario
where a package that it needs is not.
"""
import contextlib
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from qemu_vm import GUEST, QEMU, Failure, Qemu
from rsp import Rsp

SHELL = "userkvm: Linux"
FIRMWARE = "/usr/share/OVMF"


class Skip(Exception):
    pass


def need(*paths):
    for p in paths:
        if not (os.path.exists(p) if p.startswith("/") else shutil.which(p)):
            raise Skip(f"no {p}")


def expect(what, condition):
    if not condition:
        raise Failure(what)


class Bench:
    """What scenarios share: the program, a folder, initial RAM disks."""

    def __init__(self, userkvm, folder):
        self.userkvm, self.folder = userkvm, folder
        self.count = 1
        self.made = {}

    def path(self, name):
        return os.path.join(self.folder, name)

    def initrd(self, command=None):
        """With @command, the guest runs it and powers off; without, a shell on the console."""
        if command not in self.made:
            out = self.path(f"initrd{len(self.made)}")
            subprocess.run([self.userkvm, "initrd", "-o", out] + (["--run", command] if command else []), check=True)
            self.made[command] = out
        return self.made[command]

    def kernel(self, command=None, params=""):
        return ["-kernel", os.path.join(GUEST, "vmlinuz"), "-initrd", self.initrd(command),
                "-append", f"console=ttyS0 panic=-1 quiet {params}"]

    def qemu(self, args, name="qemu", **more):
        return Qemu(self.userkvm, self.folder, name, args, **more)

    def disk(self, name, size, head=b""):
        with open(self.path(name), "wb") as f:
            f.write(head)
            f.truncate(size)
        return self.path(name)


# ---- machines: to a command and to power-off ----

def boots(b, args, command="echo guest-is-alive; nproc", wanted="guest-is-alive", timeout=180, accel="kvm"):
    with b.qemu(["-m", "256M", *args], kernel_args=b.kernel(command), accel=accel) as q:
        q.wait_for(wanted, timeout)
        q.wait_for("exit 0", timeout)
        q.wait_end()
        return q.text.decode(errors="replace")


def machine(*args, accel="kvm"):
    def run(b):
        text = boots(b, list(args), accel=accel)
        if "-smp" in args:
            count = args[args.index("-smp") + 1]
            expect(f"{count} processors, the guest says {text[-300:]}", re.search(rf"^{count}\s*$", text, re.M))
    return run


def devices(machine_args, suffix="-pci"):
    """Reads and writes of a disk, DHCP and a file from the host over the network, entropy."""
    def run(b):
        disk = b.disk("disk", 4 << 20, b"disk-is-read\n")
        data = os.urandom(1 << 20)
        with open(b.path("file"), "wb") as f:
            f.write(data)
        digest = hashlib.sha256(data).hexdigest()
        with subprocess.Popen([sys.executable, "-u", "-m", "http.server", "-d", b.folder, "-b", "127.0.0.1", "0"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            try:
                port = re.search(rb"port (\d+)", server.stdout.readline())[1].decode()
                text = boots(b, [*machine_args, "-drive", f"file={disk},format=raw,if=none,id=d",
                                 "-device", f"virtio-blk{suffix},drive=d", "-netdev", "user,id=n",
                                 "-device", f"virtio-net{suffix},netdev=n", "-device", f"virtio-rng{suffix}"],
                             f"head -n 1 /dev/vda; echo disk-is-written | dd of=/dev/vda bs=512 seek=7 conv=fsync "
                             f"2>/dev/null; wget -q -O - http://10.0.2.2:{port}/file | sha256sum; "
                             f"dd if=/dev/hwrng bs=16 count=1 2>/dev/null | wc -c", "disk-is-read")
            finally:
                server.kill()
        expect("the download differs: " + text[-300:], digest in text)
        expect("no entropy: " + text[-300:], re.search(r"^16\s*$", text, re.M))
        with open(disk, "rb") as f:
            f.seek(7 * 512)
            expect("the write is not in the image", f.read(15) == b"disk-is-written")
    return run


def shared_folder(machine_args, device):
    """9p: a folder of the host, read and written, with the kernel that has the driver."""
    def run(b):
        general = os.path.join(os.path.dirname(GUEST), "general")
        need(os.path.join(general, "vmlinuz"))
        shared = b.path("shared")
        os.mkdir(shared)
        data = os.urandom(300000)
        with open(os.path.join(shared, "from-host"), "wb") as f:
            f.write(data)
        initrd = b.path("initrd-9p")
        command = ("mkdir -p /m; mount -t 9p -o trans=virtio,version=9p2000.L,msize=65536 share /m && "
                   "cp /m/from-host /m/back && sha256sum </m/back && mkdir /m/made && ln -s back /m/made/link && ls /m")
        subprocess.run([b.userkvm, "initrd", "-g", general, "-o", initrd, "--run", command], check=True)
        args = ["-m", "512M", *machine_args, "-fsdev", f"local,id=f,path={shared},security_model=none",
                "-device", f"{device},fsdev=f,mount_tag=share", "-kernel", os.path.join(general, "vmlinuz"),
                "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet"]
        with b.qemu(args) as q:
            q.wait_for("exit 0", 400)
            q.wait_end()
            text = q.text.decode(errors="replace")
        expect("the guest read something else: " + text[-300:], hashlib.sha256(data).hexdigest() in text)
        with open(os.path.join(shared, "back"), "rb") as f:
            expect("the guest wrote something else", f.read() == data)
        expect("no link", os.readlink(os.path.join(shared, "made/link")) == "back")
    return run


def sound_kernel(*args):
    """A boot in which the kernel has nothing to warn about."""
    def run(b):
        text = boots(b, list(args), "echo guest-is-alive; dmesg -r | grep -E '^<[0-3]>|Oops|BUG:|soft lockup|stall'; true")
        said = text.split("guest-is-alive")[1].split("exit 0")[0].strip()
        expect(f"the kernel said: {said}", not said)
    return run


# ---- firmware and boot loader ----

def grub_image(b):
    """A disk that BIOS and UEFI start: GRUB, the kernel and an initial RAM disk."""
    need("grub-mkrescue", "xorriso", "mformat", "/usr/lib/grub/i386-pc", "/usr/lib/grub/x86_64-efi")
    image = b.path("grub.img")
    if os.path.exists(image):
        return image
    tree = b.path("tree")
    os.makedirs(f"{tree}/boot/grub")
    shutil.copy(os.path.join(GUEST, "vmlinuz"), f"{tree}/boot/vmlinuz")
    shutil.copy(b.initrd("echo guest-is-alive; test -d /sys/firmware/efi && echo from-uefi"), f"{tree}/boot/initrd")
    with open(f"{tree}/boot/grub/grub.cfg", "w", encoding="ascii") as f:
        f.write("set timeout=0\nserial --unit=0 --speed=115200\nterminal_output serial\n"
                "menuentry linux {\n\tlinux /boot/vmlinuz console=ttyS0 panic=-1 quiet\n\tinitrd /boot/initrd\n}\n")
    made = subprocess.run(["grub-mkrescue", "-o", image, tree], capture_output=True, text=True, check=False)
    expect(made.stderr, made.returncode == 0)
    return image


def from_disk(b, args):
    image = grub_image(b)
    with b.qemu(["-m", "256M", "-drive", f"file={image},format=raw,if=virtio,readonly=on", *args]) as q:
        q.wait_for("Booting `linux'", 120)	# GRUB's first words may go to the screen
        q.wait_for("guest-is-alive", 240)
        q.wait_end()
        return q.text.decode(errors="replace")


def seabios_grub(b):
    from_disk(b, ["-machine", "pc", "-cpu", "max"])


def ovmf(code):
    """Read-only slots for the code, a flash device for the variables: writes leave as MMIO."""
    def run(b):
        need(f"{FIRMWARE}/{code}.fd")
        shutil.copy(f"{FIRMWARE}/{code.replace('CODE', 'VARS')}.fd", b.path("vars.fd"))
        # The 4 MiB build has too little early memory for tables of more than 40 bits: with TCG too.
        text = from_disk(b, ["-machine", "q35", "-cpu", "max,host-phys-bits-limit=40",
                             "-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}/{code}.fd",
                             "-drive", f"if=pflash,format=raw,file={b.path('vars.fd')}"])
        expect("not started by UEFI: " + text[-300:], "from-uefi" in text)
    return run


# ---- debugger ----

def gdb_stub(b):
    with open(os.path.join(GUEST, "vmlinuz"), "rb") as f:
        image = f.read()
    protected = (image[0x1f1] + 1) * 512	# the kernel's part that is loaded at 1 MiB
    entry = 0x100000
    path = b.path("gdb")
    with b.qemu(["-m", "256M", "-machine", "pc", "-cpu", "max", "-smp", "2", "-S",
                 "-gdb", f"unix:{path},server=on,wait=off"], kernel_args=b.kernel("echo guest-is-alive")) as q:
        g = Rsp(path)
        # The stub takes single registers only from who has asked what there is.
        expect("a description of the processor", "i386:x86-64" in g.ask("qXfer:features:read:target.xml:0,ffb"))
        regs = g.registers()
        expect(f"reset state: rip {regs['rip']:#x}", regs["rip"] == 0xfff0)
        # A hardware breakpoint, since the kernel is not there yet.
        g.ok(f"Z1,{entry:x},1")
        stop = g.resume()
        regs = g.registers()
        expect(f"hardware breakpoint: {stop}, rip {regs['rip']:#x}", stop[0] == "T" and regs["rip"] == entry)
        g.ok(f"z1,{entry:x},1")
        code = g.memory(entry, 64)
        expect("memory differs from the kernel's file", code == image[protected:protected + 64])
        old = regs["rbx"]
        g.set_register(1, 0x11223344)
        expect("RBX as it was written", g.registers()["rbx"] == 0x11223344)
        g.set_register(1, old)
        # The first thing that the kernel does with memory: a call, its stack in struct boot_params.
        scratch = regs["rsi"] + 0x1e4
        g.ok(f"Z2,{scratch:x},4")
        stop = g.resume()
        pushed = int.from_bytes(g.memory(scratch, 4), "little")
        expect(f"watchpoint: {stop}, {pushed:#x} is there", "watch" in stop and entry < pushed < entry + 64)
        g.ok(f"z2,{scratch:x},4")
        at = g.registers()["rip"]
        for _ in range(20):
            g.resume("s")
            now = g.registers()["rip"]
            expect(f"step from {at:#x} to {now:#x}", now != at)
            at = now
        # A software breakpoint, which is written into guest memory: where the 64-bit code begins.
        g.ok(f"Z0,{entry + 0x200:x},1")
        stop = g.resume()
        expect(f"software breakpoint: {stop}, rip {g.registers()['rip']:#x}", g.registers()["rip"] == entry + 0x200)
        g.ok(f"z0,{entry + 0x200:x},1")
        g.ok("D")
        g.close()
        q.wait_for("guest-is-alive", 180)
        q.wait_end()


# ---- state: snapshots, migration ----

def at_shell(q):
    q.wait_for(SHELL, 180)


def ask_shell(q, command, wanted, timeout=60):
    start = q.type(command)
    return q.wait_for(wanted, timeout, start)


def save_and_load(machine_args):
    def run(b):
        need("qemu-img")
        disk = b.path("snap.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"], check=True)
        with b.qemu(["-m", "128M", *machine_args, "-drive", f"file={disk},format=qcow2,if=virtio"],
                    kernel_args=b.kernel()) as q:
            at_shell(q)
            ask_shell(q, "X=before; echo $((6 * 7))", "\n42")
            q.hmp("savevm one")
            ask_shell(q, "X=after; echo now-$X", "\nnow-after")
            for _ in range(3):
                q.hmp("loadvm one")
                ask_shell(q, "echo then-$X", "\nthen-before")
            ask_shell(q, "sleep 1; echo time-$?-goes", "\ntime-0-goes")
            q.type("exit")
            q.wait_end()
    return run


CHECKSUMS = """
mkdir -p /tmp; head -c 4194304 /dev/urandom >/tmp/a; want=$(sha256sum </tmp/a); n=0
while :; do
	cp /tmp/a /tmp/b; [ "$(sha256sum </tmp/b)" = "$want" ] || echo MISMATCH
	n=$((n + 1)); echo "tick $n."
done"""


def ticks(q):
    return [int(n) for n in re.findall(rb"tick (\d+)\.", q.text)]


def migrated(q, timeout=300):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        state = q.qmp("query-migrate")
        if state.get("status") == "completed":
            return state
        expect(f"migration: {state}", state.get("status") in (None, "none", "setup", "active", "device"))
        time.sleep(0.1)
    raise Failure(f"the migration does not end: {state}")


def migrate(b, accel="kvm"):
    """To and fro between two QEMUs, @count times, while the guest checks its memory."""
    args = ["-m", "128M", "-machine", "pc", "-cpu", "max", "-smp", "2", "-device", "virtio-rng-pci"]
    kernel = b.kernel(CHECKSUMS)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(b.qemu(args, "vm0", kernel_args=kernel, accel=accel))
        source.wait_for("tick 2.", 180)
        last = 0
        for turn in range(1, b.count + 1):
            path = b.path(f"mig{turn}")
            target = stack.enter_context(b.qemu([*args, "-incoming", f"unix:{path}"], f"vm{turn}",
                                                kernel_args=kernel, accel=accel))
            target.qmp("query-status")
            source.qmp("migrate-set-parameters", max_bandwidth=1 << 30, downtime_limit=1000)
            source.qmp("migrate", uri=f"unix:{path}")
            migrated(source)
            source.qmp("quit")
            source.wait_end()
            before, source = source, target
            seen = ticks(before)
            last = seen[-1] if seen else last
            # A line that the move cut in two counts for neither side; the counter itself never jumps.
            source.wait_for(f"tick {last + 2}.", 120)
            ours = ticks(source)
            expect(f"turn {turn}: {seen[-3:]} and then {ours[:3]}", ours == list(range(ours[0], ours[-1] + 1)) and
                   last < ours[0] <= last + 2)
            for q in (before, source):
                expect(f"turn {turn}: memory differs", b"MISMATCH" not in q.text)


# ---- screen ----

def pixels(q, path):
    q.qmp("screendump", filename=path)
    with open(path, "rb") as f:
        magic, size, _, data = f.read().split(b"\n", 3)
    expect("a picture", magic == b"P6")
    width, height = map(int, size.split())
    return width, height, data


def screendump(b):
    with b.qemu(["-m", "128M", "-machine", "pc", "-cpu", "max", "-vga", "std"],
                kernel_args=b.kernel(params="console=tty0 console=ttyS0")) as q:
        at_shell(q)
        width, height, before = pixels(q, b.path("screen.ppm"))
        lit = sum(1 for i in range(0, len(before), 3) if before[i:i + 3] != b"\0\0\0")
        expect(f"{width}x{height} with {lit} lit pixels", width >= 640 and height >= 400 and lit > 1000)
        # Only the dirty log of the frame buffer tells QEMU of this line.
        ask_shell(q, "for i in 1 2 3 4 5 6 7 8; do echo @@@@@@@@@@@@@@@@@@@@ >/dev/tty0; done; echo is-drawn", "\nis-drawn")
        time.sleep(0.5)
        _, _, after = pixels(q, b.path("screen.ppm"))
        expect("the new lines are not on the screen", before != after)
        q.type("exit")
        q.wait_end()


# ---- the end ----

def sockets_and_files(own):
    folders = ("/dev/shm", "/tmp", os.environ.get("XDG_RUNTIME_DIR") or "/run")
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as f:
        names = [line.split()[7] for line in f if len(line.split()) > 7]
    # Other tests have theirs in other folders.
    found = {"socket " + n for n in names if own in n or
             "userkvm" in n and (n[0] == "@" or any(n.startswith(f"{folder}/userkvm") for folder in folders))}
    for folder in folders:
        found |= {os.path.join(folder, n) for n in os.listdir(folder) if "userkvm" in n or "kvm" in n}
    return found


def descendants(pid):
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as f:
                # PID (NAME) STATE PARENT: the name may contain anything.
                parents[int(entry)] = int(f.read().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            pass
    found, more = set(), {pid}
    while more:
        more = {p for p, parent in parents.items() if parent in more}
        found |= more
    return found


def killed_client(b):
    # Folders of its own, where every name counts; elsewhere those that are named after us.
    own = b.path("own")
    before = sockets_and_files(own)
    env = {v: os.path.join(own, v) for v in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_STATE_HOME",
                                              "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    for folder in env.values():
        os.makedirs(folder, mode=0o700)
    with b.qemu(["-m", "128M", "-machine", "q35", "-cpu", "max", "-smp", "2"], kernel_args=b.kernel(), env=env) as q:
        at_shell(q)
        expect("the client is QEMU itself, with no helpers", not descendants(q.process.pid))
        pid = q.process.pid
        q.kill()
        expect("the process is there", not os.path.exists(f"/proc/{pid}"))
    left = sockets_and_files(own) - before
    left |= {os.path.join(folder, n) for folder, _, files in os.walk(own) for n in files}
    left |= {folder for folder in env.values() if os.listdir(folder)}
    expect(f"left behind: {left}", not left)


SCENARIOS = {
    "pc": machine("-machine", "pc", "-cpu", "host"),
    "pc-split": machine("-machine", "pc,kernel-irqchip=split", "-cpu", "max", "-smp", "2"),
    "pc-off": machine("-machine", "pc,kernel-irqchip=off", "-cpu", "max"),
    # SeaBIOS starts the second processor and lets it halt: what QEMU 7.2.22 makes of both hangs it.
    "pc-off-2": machine("-machine", "pc,kernel-irqchip=off", "-cpu", "max", "-smp", "2", "-bios", "qboot.rom",
                        "-overcommit", "cpu-pm=on"),
    "q35-4": machine("-machine", "q35", "-cpu", "max", "-smp", "4"),
    "q35-split": machine("-machine", "q35,kernel-irqchip=split", "-cpu", "max", "-smp", "2"),
    "q35-smm": machine("-machine", "q35,smm=on", "-cpu", "max", "-smp", "2"),
    "q35-quiet": sound_kernel("-machine", "q35", "-cpu", "host", "-smp", "2"),
    "microvm": machine("-machine", "microvm", "-cpu", "max", "-smp", "2"),
    # No chip of ours at all. Two processors as with pc-off-2; its firmware starts none.
    "microvm-off": machine("-machine", "microvm,kernel-irqchip=off", "-cpu", "max"),
    "microvm-off-2": machine("-machine", "microvm,kernel-irqchip=off", "-cpu", "max", "-smp", "2", "-overcommit", "cpu-pm=on"),
    "microvm-rtc": machine("-machine", "microvm,rtc=on,pit=on,pic=on", "-cpu", "host"),
    "named-cpu": machine("-machine", "q35", "-cpu", "Skylake-Server", "-smp", "2"),
    "dirty-ring": machine("-machine", "q35", "-cpu", "max", "-smp", "2", accel="kvm,dirty-ring-size=4096"),
    "devices-pc": devices(["-machine", "pc", "-cpu", "max", "-smp", "2"]),
    "devices-q35": devices(["-machine", "q35", "-cpu", "max", "-smp", "2"]),
    "devices-split": devices(["-machine", "q35,kernel-irqchip=split", "-cpu", "max", "-smp", "2"]),
    "9p": shared_folder(["-machine", "q35", "-cpu", "max", "-smp", "2"], "virtio-9p-pci"),
    "9p-microvm": shared_folder(["-machine", "microvm", "-cpu", "max"], "virtio-9p-device"),
    "seabios-grub": seabios_grub,
    "ovmf": ovmf("OVMF_CODE"),
    "ovmf-4m": ovmf("OVMF_CODE_4M"),
    "gdb": gdb_stub,
    "savevm": save_and_load(["-machine", "pc", "-cpu", "max", "-smp", "2"]),
    "savevm-split": save_and_load(["-machine", "q35,kernel-irqchip=split", "-cpu", "max", "-smp", "2"]),
    "migrate": migrate,
    "migrate-ring": lambda b: migrate(b, "kvm,dirty-ring-size=4096"),
    "screendump": screendump,
    "killed-client": killed_client,
}


def run(userkvm, number, word):
    name, _, count = word.partition("=")
    with tempfile.TemporaryDirectory(prefix="scenario-") as folder:
        b = Bench(userkvm, folder)
        b.count = int(count or 1)
        started = time.monotonic()
        try:
            SCENARIOS[name](b)
        except Skip as why:
            print(f"ok {number} - {word} # SKIP {why}", flush=True)
            return True
        except (Failure, OSError, socket.timeout, subprocess.SubprocessError) as why:
            print(f"not ok {number} - {word}", flush=True)
            for line in str(why).splitlines():
                print("# " + line)
            return False
    print(f"ok {number} - {word} ({time.monotonic() - started:.0f} s)", flush=True)
    return True


def main():
    userkvm, words = os.path.abspath(sys.argv[1]), sys.argv[2:] or list(SCENARIOS)
    if not shutil.which(QEMU) or not os.path.exists(os.path.join(GUEST, "vmlinuz")):
        print("1..0 # SKIP no QEMU, or no default guest: run scripts/fetch-guest")
        return 0
    print(f"1..{len(words)}", flush=True)
    return 0 if all([run(userkvm, i, w) for i, w in enumerate(words, 1)]) else 1


if __name__ == "__main__":
    sys.exit(main())
