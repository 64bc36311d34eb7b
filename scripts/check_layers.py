#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check the layering and the headers; TAP output.

1. A file includes only folders of its own layer's list below, and of another
   folder only public headers.
2. No include cycle.
3. Every header compiles alone.
4. Every C file, header, table and script has an SPDX line.
5. Every contract of STYLE size: a C file past 1,200 lines says why in its head.
"""
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# folder: what else it may include. "spec" and "abi" are data and usable by all above.
ALLOWED = {
    "spec": {"spec"},
    "abi": set(),
    "base": set(),
    "vfs": {"base"},
    "silicon": {"base", "spec"},
    "vdpa": {"base", "abi", "vfs", "silicon"},
    "kvm": {"base", "abi", "spec", "vfs", "silicon"},
    "uapi": {"base", "abi", "vfs", "kvm", "silicon"},
    "shim": {"base", "vfs"},
    "vmm": {"base", "abi"},
    "tools": {"base", "abi", "vfs", "silicon", "kvm", "uapi", "vdpa", "vmm"},
    "guest": {"spec", "abi"},
    "tests": {"base", "abi", "spec", "vfs", "silicon", "kvm", "uapi", "vdpa", "vmm", "tools"},
}
# A header deeper than the folder itself is private, but for these.
PUBLIC_DEEP = re.compile(r"^(spec|abi)/")
# Tests may look inside.
INSIDERS = {"tests"}

results = []


def check(name, problems):
    results.append((name, problems))


def tracked():
    out = subprocess.run(["git", "-C", TOP, "ls-files", "-co", "--exclude-standard"],
                         capture_output=True, text=True)
    if out.returncode == 0 and out.stdout:
        return [f for f in out.stdout.splitlines() if os.path.exists(os.path.join(TOP, f))]
    found = []
    for d, dirs, files in os.walk(TOP):
        dirs[:] = [x for x in dirs if not x.startswith((".", "build"))]
        found += [os.path.relpath(os.path.join(d, f), TOP) for f in files]
    return found


def main():
    files = tracked()
    sources = [f for f in files if f.endswith((".c", ".h", ".def", ".S"))]
    graph = {}
    bad_layer = []
    for f in sources:
        text = open(os.path.join(TOP, f), encoding="utf-8", errors="replace").read()
        folder = f.split("/")[0]
        graph[f] = []
        for inc in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.M):
            path = inc if os.path.exists(os.path.join(TOP, inc)) else os.path.join(os.path.dirname(f), inc)
            if not os.path.exists(os.path.join(TOP, path)):
                if not inc.endswith(".inc.h"):  # made by the build
                    bad_layer.append(f"{f}: includes {inc}, which is not in the tree")
                continue
            graph[f].append(path)
            to = path.split("/")[0]
            if to == folder:
                continue
            if to not in ALLOWED.get(folder, set()):
                bad_layer.append(f"{f}: {folder}/ may not include {path}")
            elif path.count("/") > 1 and not PUBLIC_DEEP.match(path) and folder not in INSIDERS:
                bad_layer.append(f"{f}: {path} is private to {to}/")
    check("layers", bad_layer)

    state, cycles = {}, []

    def visit(f, path):
        state[f] = 1
        for g in graph.get(f, []):
            if g.endswith(".def"):
                continue
            if state.get(g) == 1:
                cycles.append(" -> ".join(path[path.index(g):] + [g]) if g in path else f"{f} -> {g}")
            elif g not in state:
                visit(g, path + [g])
        state[f] = 2

    for f in graph:
        if f not in state:
            visit(f, [f])
    check("no include cycles", cycles)

    alone = []
    cc = os.environ.get("CC", "cc")
    for f in sources:
        if not f.endswith(".h"):
            continue
        flags = ["-ffreestanding"] if f.startswith("guest/") else []
        inc = ["-I" + TOP] + (["-I" + os.path.join(TOP, "guest/x86")] if f.startswith("guest/") else [])
        r = subprocess.run([cc, "-std=gnu17", "-D_GNU_SOURCE", "-fsyntax-only", "-x", "c", *flags, *inc,
                            os.path.join(TOP, f)], capture_output=True, text=True)
        if r.returncode:
            alone.append(f"{f}: {r.stderr.splitlines()[0] if r.stderr else 'does not compile'}")
    check("headers compile alone", alone)

    check("SPDX lines", [f for f in files
                         if f.endswith((".c", ".h", ".def", ".S", ".py", ".sh", "meson.build", ".ld"))
                         and "SPDX-License-Identifier: MIT" not in
                         open(os.path.join(TOP, f), errors="replace").read(400)])

    long_files = []
    for f in sources:
        if f.endswith(".def"):
            continue
        text = open(os.path.join(TOP, f), errors="replace").read()
        if text.count("\n") > 1200 and "one file because" not in text[:2000]:
            long_files.append(f"{f}: {text.count(chr(10))} lines and no reason in its head")
    check("file sizes", long_files)

    print(f"1..{len(results)}")
    failed = 0
    for i, (name, problems) in enumerate(results, 1):
        print(f"{'not ok' if problems else 'ok'} {i} - {name}")
        for p in problems:
            print(f"# {p}")
        failed += bool(problems)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
