#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Resident memory of `userkvm boot` beside the guest's RAM, with an idle shell running.

Translated code, which is mapped twice, counts once.
"""
import re
import subprocess
import sys

MIB = 256
p = subprocess.Popen([sys.argv[1], "boot", "--engine", sys.argv[2], "-m", f"{MIB}M", "-c", "1", "--timeout", "120", "--run", "echo up; sleep 20"],
                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
p.stdout.readline()
guest = other = 0
size = 0
in_guest = again = False
for line in open(f"/proc/{p.pid}/smaps"):
    m = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
    if m:
        size = int(m[2], 16) - int(m[1], 16)
        again = "memfd:userkvm-jit" in line and " r-x" in line
        in_guest = size >= MIB << 20 and size < (MIB << 20) + (4 << 20)
    elif line.startswith("Rss:"):
        kib = int(line.split()[1])
        if in_guest:
            guest += kib
        elif not again:
            other += kib
p.terminate()
p.wait()
print(f"{sys.argv[2]}: resident: guest RAM {guest / 1024:.1f} MiB of {MIB}, userkvm itself {other / 1024:.1f} MiB")
