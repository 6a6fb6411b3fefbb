"""``make soak``: the long form of the tests marked ``soak``; the result is kept in bench/soak.json with its commit."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path

from bench.lib.figures import ROOT, commit, machine

OUTCOMES = ("failure", "error", "skipped")
RESULT = ROOT / "bench" / "soak.json"


def main() -> int:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    clock = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="jindopy-soak-") as folder:
        report = Path(folder) / "junit.xml"
        code = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--soak", "-m", "soak", f"--junitxml={report}", "tests"],
            cwd=ROOT,
            check=False,
        ).returncode
        tests = [
            {
                "name": f"{case.get('classname')}.{case.get('name')}",
                "seconds": round(float(case.get("time", "0")), 1),
                "outcome": next((child.tag for child in case if child.tag in OUTCOMES), "passed"),
            }
            for case in (ET.parse(report).getroot().iter("testcase") if report.exists() else ())
        ]
    document = {
        "commit": commit(),
        "started": started,
        "seconds": round(time.monotonic() - clock),
        "machine": machine(),
        "exit_code": code,
        "tests": tests,
    }
    RESULT.write_text(json.dumps(document, indent=2) + "\n")
    print(f"soak: {len(tests)} tests in {document['seconds']} s, kept in {RESULT.relative_to(ROOT)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
