#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Count the test cases of the last `meson test` run in a build folder.

Reads meson's JUnit file, where each TAP line is a case of its own. Prints the
names of what failed or was skipped, then "N passed, N failed[, N skipped]".
Exits 1 if anything failed or nothing ran.
"""
import sys
import xml.etree.ElementTree as ET


def main(build):
    try:
        root = ET.parse(f"{build}/meson-logs/testlog.junit.xml").getroot()
    except (OSError, ET.ParseError) as e:
        print(f"test_summary: no result of meson test: {e}", file=sys.stderr)
        print("0 passed, 1 failed")
        return 1
    passed = failed = skipped = 0
    for suite in root.iter("testsuite"):
        cases = list(suite.findall("testcase"))
        bad_suite = suite.get("errors", "0") != "0" or suite.get("failures", "0") != "0"
        before = failed
        for case in cases:
            name = f"{suite.get('name')}: {case.get('name')}"
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
                print(f"FAILED  {name}")
            elif case.find("skipped") is not None:
                skipped += 1
                print(f"SKIPPED {name}")
            else:
                passed += 1
        # A program that died or timed out before its plan was complete.
        if (bad_suite or not cases) and failed == before:
            failed += 1
            print(f"FAILED  {suite.get('name')}: did not complete")
    tail = f", {skipped} skipped" if skipped else ""
    print(f"{passed} passed, {failed} failed{tail}")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
