#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Where the processor time of a machine goes, by source file of the program.

usage: tests/bench/profile.py BUILD ENGINE [WORKLOAD,...]

Without workloads: a boot to power-off; else only the timed runs. Needs perf (Debian: linux-perf). Symbols are looked up in the
object files, so that the lines read as the tree does; what is in no object file is named as it is:
the host's kernel, libraries, and code that was made at run time.
"""
import collections
import glob
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import workloads  # noqa: E402


def sources(build):
    """symbol -> source file. Object files are named by their source, with _ for /."""
    where = {}
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    flat = {}
    for d, dirs, files in os.walk(top):
        dirs[:] = [x for x in dirs if not x.startswith((".", "build"))]
        for f in files:
            if f.endswith((".c", ".S")):
                path = os.path.relpath(os.path.join(d, f), top)
                flat[path.replace("/", "_")] = path
    objects = [o for o in glob.glob(f"{build}/**/*.o", recursive=True) if "/tests/" not in o and "_test" not in o]
    out = subprocess.run(["nm", "-A", "--defined-only"] + objects, capture_output=True, text=True).stdout
    for line in out.splitlines():
        m = re.match(r"(.*)/([^/:]*)\.o:[0-9a-f]* [tTwW] (.*)", line)
        if not m:
            continue
        # A folder's library leaves the folder's own name out.
        folder = os.path.relpath(m[1], build).split("/")[0]
        source = flat.get(m[2]) or flat.get(f"{folder}_{m[2]}")
        if source:
            where.setdefault(m[3], source)
    return where


def record(cmd, data, control):
    """Run under perf; with a control FIFO only between the marks of the measuring program."""
    perf = ["perf", "record", "-q", "-o", data]
    if control:
        os.mkfifo(control)
        fifo = os.open(control, os.O_RDWR)
        perf += ["-D", "-1", f"--control=fifo:{control}"]
    try:
        p = subprocess.Popen(perf + cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError:
        print("profile: perf is missing (Debian: linux-perf)", file=sys.stderr)
        return False
    for line in p.stdout:
        if control and b"@b" in line:
            os.write(fifo, b"enable\n")
        elif control and b"@e\n" in line:
            os.write(fifo, b"disable\n")
    err = p.stderr.read()
    if p.wait():
        print(err.decode(errors="replace"), file=sys.stderr)
    return True


def main():
    if len(sys.argv) < 3:
        print(__doc__)
        return 2
    build, engine = sys.argv[1:3]
    m = workloads.Machines(build, "bench")
    if len(sys.argv) > 3:
        cmd = m.command(f"userkvm-{engine}", ["-r", "1", "-t", "2000", sys.argv[3]], 1)
    else:
        cmd = m.command(f"userkvm-{engine}", ["none"], 1)
    with tempfile.TemporaryDirectory() as tmp:
        if not record(cmd, f"{tmp}/data", f"{tmp}/control" if len(sys.argv) > 3 else None):
            return 1
        text = subprocess.run(["perf", "report", "-i", f"{tmp}/data", "--stdio", "--no-children", "-g", "none",
                               "--percent-limit", "0", "-t", "|", "--sort", "dso,symbol"], capture_output=True, text=True).stdout
    where = sources(build)
    files, symbols = collections.Counter(), collections.Counter()
    for line in text.splitlines():
        f = [x.strip() for x in line.split("|")]
        if len(f) < 3 or not f[0].endswith("%"):
            continue
        share, dso, symbol = float(f[0][:-1]), f[1], re.sub(r"^\[.\] ", "", f[2])
        # Compiler's parts of a function count as the function.
        base = re.sub(r"\.(isra|part|cold|constprop|lto_priv).*", "", symbol)
        if dso == "userkvm":
            place = where.get(symbol) or where.get(base) or "userkvm, other"
        elif "kernel" in dso:
            place = "host kernel"
        elif dso.startswith("lib"):
            place = dso
        else:
            place = "translated code"
            base = "(all)"
        files[place] += share
        symbols[place, base] += share
    for place, share in files.most_common():
        if share < 0.3:
            break
        top = [f"{s} {v:.1f}" for (p, s), v in symbols.most_common() if p == place and v >= 0.3][:6]
        print(f"{share:6.1f} %  {place:<36} {', '.join(top)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
