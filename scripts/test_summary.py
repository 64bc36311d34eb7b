#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Count the test cases of the last `meson test` run in a build folder.

Reads meson's JUnit file, where each TAP line is a case of its own, and its log,
which alone knows of a program whose cases passed but that ended badly (a
sanitizer's report, say). Prints the names of what failed or was skipped, then
"N passed, N failed[, N skipped]". Exits 1 if anything failed or nothing ran.
"""
import json
import sys
import xml.etree.ElementTree as ET


def main(build):
    try:
        root = ET.parse(f"{build}/meson-logs/testlog.junit.xml").getroot()
        with open(f"{build}/meson-logs/testlog.json", encoding="utf-8") as log:
            results = [json.loads(line) for line in log]
    except (OSError, ValueError, ET.ParseError) as e:
        print(f"test_summary: no result of meson test: {e}", file=sys.stderr)
        print("0 passed, 1 failed")
        return 1
    passed = failed = skipped = 0
    blamed = set()
    for suite in root.iter("testsuite"):
        cases = list(suite.findall("testcase"))
        for case in cases:
            name = f"{suite.get('name')}: {case.get('name')}"
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
                blamed.add(suite.get("name").split(".", 1)[-1])
                blamed.add(case.get("name"))
                print(f"FAILED  {name}")
            elif case.find("skipped") is not None:
                skipped += 1
                print(f"SKIPPED {name}")
            else:
                passed += 1
    for r in results:
        if r["result"] not in ("OK", "SKIP", "EXPECTEDFAIL") and r["name"] not in blamed \
                and r["name"].split(" / ")[-1] not in blamed:
            failed += 1
            print(f"FAILED  {r['name']}: {r['result'].lower()}, exit status {r.get('returncode')}")
    tail = f", {skipped} skipped" if skipped else ""
    print(f"{passed} passed, {failed} failed{tail}")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
