"""Reads h2spec's report: h2spec.py REPORT KNOWN_FAILING CASES.

Fails when a case fails that is not in the list, when a listed case passes, and when cases are missing.
"""

import sys
import xml.etree.ElementTree as tree

report, known_failing, cases = sys.argv[1], sys.argv[2], int(sys.argv[3])
lines = (line.split("#")[0].strip() for line in open(known_failing, encoding="utf-8"))
known = {line for line in lines if line}

failed, count = set(), 0
for suite in tree.parse(report).getroot().iter("testsuite"):
    for case in suite.iter("testcase"):
        count += 1
        if case.find("failure") is not None or case.find("error") is not None or case.find("skipped") is not None:
            failed.add(f"{case.get('package')}: {case.get('classname')}")

for name in sorted(failed - known):
    print(f"failed: {name}")
for name in sorted(known - failed):
    print(f"passed, but is listed as failing: {name}")
print(f"h2spec: {count - len(failed)} of {count} cases passed, {len(failed & known)} by a named exception")
sys.exit(bool(failed ^ known) or count != cases)
