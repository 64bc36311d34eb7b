#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The measuring program (guest/bench) on the bare host, in userkvm with each engine and in QEMU TCG.

usage: tests/bench/workloads.py BUILD [--quick] [--check] [--runs N] [--ms N] [--best] [--cpu]
                                      [--only CONFIG,...] [--m32] [WORKLOAD...]

The same kernel, initrd and parameters in every machine; a rate is repetitions by the host's clock (or
with --cpu by the processor time that the machine's process took, which other load disturbs less).
Prints a table: the bare host's figure, then each machine's time relative to it.
--check compares the checksums instead and prints TAP. --m32: the program as 32-bit code, if it was built
(its compiler's libraries are not among the packages that ./dev asks for).
"""
import argparse
import math
import os
import re
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

QUICK = ["alu10", "loop2", "loop_xpage", "crc32", "sieve", "fib", "vmdisp", "icall", "chase16k", "loads", "stores",
         "tlb4k", "memcpy16k", "copy8", "repmovsb", "nbody", "saxpy_128", "x87", "sha256", "getppid", "fork",
         "pgfault", "smc", "smcdata", "cpuid", "outb80"]
COMPUTE, GUEST, SMP, NOSUM = 1, 2, 4, 8
SCALE = {"MIPS": 1e6, "MB/s": 1e6, "M/s": 1e6, "Mcall/s": 1e6, "Mop/s": 1e6, "kstep/s": 1e3, "GB/s": 1e9,
         "GFLOP/s": 1e9, "Gelem/s": 1e9}
TIME = {"ns": 1e9, "us": 1e6, "ms": 1e3}
TIMEOUT = 900


class Workload:
    def __init__(self, line):
        f = line.split()
        self.name, self.unit, self.per = f[0], f[1], float(f[2])
        self.flags, self.must, self.moonshot = int(f[3]), float(f[4]), float(f[5])

    def figure(self, seconds):
        """In the row's unit, from the seconds of one repetition."""
        if self.unit in TIME:
            return seconds / self.per * TIME[self.unit]
        return self.per / seconds / SCALE[self.unit]


def cpio(files):
    """A newc archive: (path, mode, content)."""
    out = b""
    for ino, (path, mode, data) in enumerate(files + [("TRAILER!!!", 0, b"")], 1):
        name = path.encode() + b"\0"
        head = [ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
        out += b"070701" + b"".join(b"%08x" % v for v in head) + name
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return out


def task_time(pid):
    """Nanoseconds that the process's threads have run."""
    total = 0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[0])
    except (OSError, ValueError, IndexError):
        pass
    return total


class Result:
    def __init__(self):
        self.wall, self.cpu, self.sums, self.values, self.skipped = {}, {}, {}, {}, {}
        self.ended = False


def run(cmd, machine):
    """Run one configuration and read its marks."""
    res, lines = Result(), b""
    start = name = cpu0 = None
    seconds = None
    p = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + TIMEOUT
    fd = p.stdout.fileno()
    while time.monotonic() < end:
        if not select.select([fd], [], [], 1)[0]:
            continue
        got = os.read(fd, 4096)
        now = time.monotonic_ns()
        if not got:
            break
        lines += got
        while b"\n" in lines:
            line, lines = lines.split(b"\n", 1)
            f = line.decode(errors="replace").strip().split(maxsplit=2)
            if not f or not f[0].startswith("@"):
                continue
            if f[0] == "@b" and len(f) == 2:
                cpu0 = task_time(p.pid) if machine else 0
                start, name = now, f[1]
            elif f[0] == "@e" and start:
                # Both marks at once: we came too late to tell.
                seconds = (now - start, task_time(p.pid) - cpu0 if machine else 0) if now > start else None
                start = None
            elif f[0] == "@n" and len(f) == 3:
                n, cpu = map(int, f[2].split())
                if not seconds:
                    continue
                res.wall.setdefault(name, []).append(seconds[0] / 1e9 / n)
                res.cpu.setdefault(name, []).append((seconds[1] if machine else cpu) / 1e9 / n)
            elif f[0] == "@c" and len(f) == 3:
                res.sums[f[1]] = f[2]
            elif f[0] == "@v" and len(f) == 3 and start:
                res.values.setdefault(f[1], []).append(float(f[2]))
            elif f[0] == "@x" and len(f) == 3:
                res.skipped[f[1]] = f[2]
            elif f[0] == "@end":
                res.ended = True
    else:
        p.kill()
    err = p.stderr.read().decode(errors="replace")
    p.wait()
    if not res.ended:
        print(f"# {' '.join(cmd[:4])} ...: no end seen; last lines of its output:", file=sys.stderr)
        for l in (lines.decode(errors="replace") + err).splitlines()[-5:]:
            print(f"#   {l}", file=sys.stderr)
    return res


def engines(userkvm):
    """What `boot --engine` offers for running; lockstep only compares."""
    text = subprocess.run([userkvm, "help", "boot"], capture_output=True, text=True).stdout
    m = re.search(r"--engine NAME(.*(?:\n {20,}.*)*)", text)
    return [e for e in ("interp", "jit") if m and re.search(rf"\b{e}\b", m[1])]


class Machines:
    """The configurations, as functions from program arguments and processors to a command."""

    def __init__(self, build, program):
        self.build = build
        self.userkvm = f"{build}/userkvm"
        self.program = f"{build}/guest/{program}"
        cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
        self.kernel = f"{cache}/userkvm/guest/current/vmlinuz"
        self.tmp = tempfile.TemporaryDirectory()
        self.initrd = f"{self.tmp.name}/initrd"
        with open(self.program, "rb") as f, open(self.initrd, "wb") as out:
            out.write(cpio([("init", 0o100755, f.read())]))
        self.names = ["native"] + [f"userkvm-{e}" for e in engines(self.userkvm)]
        if shutil.which("qemu-system-x86_64"):
            self.names += ["tcg-max", "tcg-max,-erms,-fsrm"]

    def command(self, name, args, cpus):
        if name == "native":
            return [self.program] + args
        params = "console=ttyS0 panic=-1 quiet cryptomgr.notests iomem=relaxed nox2apic -- " + " ".join(args)
        kind, _, what = name.partition("-")
        if kind == "userkvm":
            return [self.userkvm, "boot", "--engine", what, "-n", "none", "-m", "512M", "-c", str(cpus),
                    "-k", self.kernel, "-i", self.initrd, "-p", params]
        return ["qemu-system-x86_64", "-accel", "tcg", "-cpu", what, "-smp", str(cpus), "-m", "512", "-nographic",
                "-nodefaults", "-serial", "stdio", "-no-reboot", "-kernel", self.kernel, "-initrd", self.initrd,
                "-append", params]

    def run(self, name, args, workloads, cpus):
        if not workloads:
            return Result()
        return run(self.command(name, args + [",".join(w.name for w in workloads)], cpus), name != "native")


def check(m, workloads):
    """TAP: one test a machine and processor count, every checksum as on the bare host."""
    out, failed = [], 0
    for cpus in (1, 2):
        rows = [w for w in workloads if not w.flags & (NOSUM | GUEST) and bool(w.flags & SMP) == (cpus == 2)]
        want = m.run("native", ["-c"], rows, cpus).sums
        for name in m.names[1:]:
            got = m.run(name, ["-c"], rows, cpus)
            bad = [f"{k}: {got.sums.get(k)} instead of {v}" for k, v in want.items() if got.sums.get(k) != v]
            bad += [f"{k}: {v}" for k, v in got.skipped.items() if k not in want]
            failed += bool(bad) or not want
            out.append(f"{'not ok' if bad or not want else 'ok'} {len(out) + 1} - {name}, {cpus} cpu: "
                       f"{len(want)} checksums as on the bare host")
            print(out[-1], *(f"# {b}" for b in bad), sep="\n", flush=True)
    print(f"1..{len(out)}")
    return 1 if failed else 0


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


def table(m, workloads, results, pick):
    """One row a workload: the bare host's figure, then how many times longer each machine takes."""
    names = m.names[1:]
    best = [n for n in names if n.startswith("userkvm")][-1:]
    tcg = [n for n in names if n.startswith("tcg")]
    ratios = {n: {} for n in names}
    print(f"{'workload':<13}{'unit':>8}{'native':>10}" + "".join(f"{n.replace('userkvm-', '').replace('max,-erms,-fsrm', 'no-erms'):>12}" for n in names) +
          f"{'/ TCG':>8}{'must':>6}{'moon':>6}  goal")
    for w in workloads:
        host = pick(results["native"], w)
        line = f"{w.name:<13}{w.unit:>8}" + (f"{w.figure(host):>10.4g}" if host else f"{'-':>10}")
        for n in names:
            t = pick(results[n], w)
            if t and host:
                ratios[n][w.name] = t / host
                line += f"{t / host:>11.3g}x"
            elif t:
                line += f"{w.figure(t):>9.4g} {w.unit:<2}"
            else:
                line += f"{'-':>12}"
        goal = ""
        ours = [ratios[n].get(w.name) for n in best]
        if tcg and ours and ours[0] and w.name in ratios[tcg[0]]:
            # Below 1: faster than TCG's better model.
            line += f"{ours[0] / min(ratios[n].get(w.name, math.inf) for n in tcg):>8.2f}"
        else:
            line += f"{'':>8}"
        if w.must and ours and ours[0]:
            line += f"{w.must:>6g}{w.moonshot:>6g}"
            goal = "moonshot" if ours[0] <= w.moonshot * 1.02 else "must" if ours[0] <= w.must else "missed"
        print(f"{line}  {goal}".rstrip())
    for key in sorted({k for r in results.values() for k in r.values}):
        line = f"{key:<13}{'us':>8}"
        for n in m.names:
            values = results[n].values.get(key)
            line += (f"{statistics.median(values):>10.4g}" if n == 'native' else f"{statistics.median(values):>9.4g} us") if values else f"{'-':>12}"
        print(line)
    rows = [w.name for w in workloads if w.flags & COMPUTE]
    for what, keep in (("compute rows", rows), ("without REP copies", [r for r in rows if r not in ("memcpy16k", "repmovsb")])):
        keep = [r for r in keep if all(r in ratios[n] for n in names)]
        if keep:
            print(f"geometric mean of {len(keep)} {what}: " +
                  ", ".join(f"{n} {geomean([ratios[n][r] for r in keep]):.2f}x" for n in names))
            for t in tcg if best else []:
                print(f"  {best[0]} takes {geomean([ratios[best[0]][r] / ratios[t][r] for r in keep]):.2f} times {t}'s time")
    sums = {w.name: {results[n].sums[w.name] for n in m.names if w.name in results[n].sums} for w in workloads}
    bad = [k for k, v in sums.items() if len(v) > 1]
    print("checksums: " + (f"DIFFER in {', '.join(bad)}" if bad else "the same everywhere"))
    for n in names:
        for k, why in results[n].skipped.items():
            print(f"not measured in {n}: {k}: {why}")


def main():
    ap = argparse.ArgumentParser(usage=__doc__)
    ap.add_argument("build")
    ap.add_argument("--quick", action="store_true")
    ap.add_argument("--check", action="store_true")
    ap.add_argument("--best", action="store_true")
    ap.add_argument("--cpu", action="store_true")
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--ms", type=int, default=100)
    ap.add_argument("--only", default="")
    ap.add_argument("--m32", action="store_true")
    ap.add_argument("workload", nargs="*")
    o = ap.parse_intermixed_args()
    try:
        # The marks must be read when they come.
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        pass
    program = "bench32" if o.m32 else "bench"
    if not os.path.exists(f"{o.build}/guest/{program}"):
        print(f"1..0 # SKIP {program} was not built")
        return 0
    m = Machines(o.build, program)
    if not os.path.exists(m.kernel):
        print("1..0 # SKIP no default guest: run scripts/fetch-guest")
        return 0
    if o.only:
        m.names = ["native"] + [n for n in m.names if any(n == x or n == "userkvm-" + x for x in o.only.split(","))]
    rows = [Workload(l) for l in subprocess.run([m.program, "-l"], capture_output=True, text=True, check=True)
            .stdout.splitlines()]
    chosen = o.workload or (QUICK if o.quick else [w.name for w in rows])
    unknown = set(chosen) - {w.name for w in rows}
    if unknown:
        ap.error(f"no such workload: {', '.join(sorted(unknown))}")
    rows = [w for w in rows if w.name in chosen]
    if o.check:
        return check(m, rows)
    ms, runs = (30, 3) if o.quick else (o.ms, o.runs)
    args = ["-r", str(runs), "-t", str(ms)]
    results = {}
    for n in m.names:
        one = m.run(n, args, [w for w in rows if not w.flags & SMP], 1)
        # Processes on two processors start slowly beside other load.
        two = m.run(n, ["-r", str(runs), "-t", str(4 * ms)], [w for w in rows if w.flags & SMP], 2)
        for field in ("wall", "cpu", "sums", "values", "skipped"):
            getattr(one, field).update(getattr(two, field))
        results[n] = one

    def pick(r, w):
        # Of two processors, and of sleeping, only the clock on the wall tells.
        times = (r.cpu if o.cpu and not w.flags & SMP and w.name != "timer1ms" else r.wall).get(w.name)
        return (min if o.best else statistics.median)(times) if times else None

    how = "best" if o.best else "median"
    print(f"{how} of {runs} runs of about {ms} ms, {'processor time' if o.cpu else 'wall clock'}; NAMEx = times as long as natively")
    table(m, rows, results, pick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
