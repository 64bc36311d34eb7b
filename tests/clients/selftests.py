#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run the kernel's KVM selftests under `userkvm run` and compare with selftests.def; TAP output.

usage: selftests.py USERKVM [--when fast|long|all] [--table FILE] [NAME...]

NAME is part of a program's name; such a run shows what the program prints. --table rewrites
the table between the markers of FILE, if every program was run. Programs come from
scripts/fetch-selftests. Replay one: userkvm run -- ~/.cache/userkvm/selftests/current/NAME
"""
import argparse
import ast
import collections
import concurrent.futures
import os
import re
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
PROGRAMS = os.path.join(CACHE, "userkvm/selftests/current")
CONFORMANCE = os.path.join(HERE, "../../docs/conformance.md")
BEGIN, END = "<!-- selftests: begin -->\n", "<!-- selftests: end -->\n"
# Seconds; the kernel's own runner gives each program as much on real processors.
LIMIT = {"fast": 120, "alone": 120, "translated": 120, "long": 900}
SKIPPED = 4

Row = collections.namedtuple("Row", "name when result args says why")


def read_rows():
    text = open(os.path.join(HERE, "selftests.def"), encoding="utf-8").read()
    rows = []
    for line in re.findall(r"^SELFTEST\((.*)\)$", text, re.M):
        name, when, result, strings = (x.strip() for x in line.split(",", 3))
        row = Row(name, when, result, *ast.literal_eval(f"({strings})"))
        if row.when not in LIMIT or row.result not in ("pass", "skip", "fail"):
            sys.exit(f"selftests: bad row: {line}")
        rows.append(row)
    return rows


def run(userkvm, row):
    """(what it gave, its output)"""
    cmd = [userkvm, "run", "--", os.path.join(PROGRAMS, row.name), *row.args.split()]
    # A session of its own, so that nothing that it forks outlives it.
    p = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, errors="replace", start_new_session=True)
    late = ""
    try:
        output, _ = p.communicate(timeout=LIMIT[row.when])
    except subprocess.TimeoutExpired:
        late = f"no end after {LIMIT[row.when]} s\n"
    try:
        os.killpg(p.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    if late:
        return "fail", p.communicate()[0] + late
    if p.returncode == 0:
        return "pass", output
    if p.returncode == SKIPPED and "Test Assertion Failure" not in output:
        return "skip", output
    return "fail", f"{output}exit status {p.returncode}\n"


def table(rows):
    """What the rows promise, as Markdown; after a run without a deviation also what it gave."""
    count = collections.Counter(r.result for r in rows)
    lines = [f"{count['pass']} pass, {count['skip']} skip, {count['fail']} fail, of {len(rows)}.\n",
             "\n", "| Program | Result | Why |\n", "|---|---|---|\n"]
    for r in sorted(rows, key=lambda r: (("fail", "pass", "skip").index(r.result), r.name)):
        args = f" `{r.args}`" if r.args else ""
        why = r.why
        if r.result == "skip":
            requires = r.says.replace("|", "\\|")
            why = f"{why} (`{requires}`)"
        lines.append(f"| {r.name}{args} | {r.result} | {why} |\n")
    return "".join(lines)


def split_at_markers(path):
    text = open(path, encoding="utf-8").read()
    head, rest = text.split(BEGIN)
    old, tail = rest.split(END)
    return head + BEGIN, old, END + tail


class Tap:
    def __init__(self, count):
        self.n = self.bad = 0
        print(f"1..{count}", flush=True)

    def line(self, ok, name, comment=""):
        self.n += 1
        self.bad += not ok
        print(f"{'ok' if ok else 'not ok'} {self.n} - {name}", flush=True)
        for c in comment.splitlines():
            print(f"# {c}")


def main():
    ap = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1])
    ap.add_argument("userkvm")
    ap.add_argument("--when", default="all", choices=["fast", "long", "all"])
    ap.add_argument("--table")
    ap.add_argument("names", nargs="*")
    args = ap.parse_args()

    rows = read_rows()
    if not os.path.exists(os.path.join(PROGRAMS, "VERSION")):
        print("1..0 # SKIP no selftests: run scripts/fetch-selftests")
        return 0
    wanted = [r for r in rows if any(n in r.name for n in args.names or [""]) and
              (args.when == "all" or (args.when == "long") == (r.when == "long"))]
    if os.environ.get("USERKVM_ENGINE") == "interp":
        wanted = [r for r in wanted if r.when != "translated"]
    tap = Tap(len(wanted) + 1)

    def judge(row, got):
        result, output = got
        ok = result == row.result and (result != "skip" or row.says in output)
        comment = output if args.names or not ok else ""
        if not ok:
            comment += f"expected {row.result} {row.says}, got {result}"
        tap.line(ok, row.name if row.result == "pass" else f"{row.name} ({row.result})", comment)

    crowd = [r for r in wanted if r.when != "alone"]
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for row, got in zip(crowd, pool.map(lambda r: run(args.userkvm, r), crowd)):
            judge(row, got)
    for row in wanted:
        if row.when == "alone":
            judge(row, run(args.userkvm, row))

    if args.table and not tap.bad and len(wanted) == len(rows):
        head, _, tail = split_at_markers(args.table)
        with open(args.table, "w", encoding="utf-8") as f:
            f.write(head + table(rows) + tail)
    tap.line(split_at_markers(CONFORMANCE)[1] == table(rows),
             "docs/conformance.md has the table of selftests.def", "./dev selftests rewrites it")
    return 1 if tap.bad else 0


if __name__ == "__main__":
    sys.exit(main())
