#!/usr/bin/env python3
"""Rebuilds the b3_41 table from a directory of JSONL traces: a front of `greta analyze`.

usage: analyze_b3_41_post_wo.py --dir DIR --out FILE [more options of greta analyze]
Exit code: that of `greta analyze` (0 agree, 1 diverged, 2 cannot tell or misuse).
"""

import os
import pathlib
import shutil
import subprocess
import sys


def find_greta():
    """$GRETA, else the release build of this checkout, else the one in PATH; None where there is none."""
    root = pathlib.Path(__file__).resolve().parents[2]
    for candidate in (os.environ.get("GRETA"), root / "build/release/greta", shutil.which("greta")):
        if candidate and os.access(candidate, os.X_OK):
            return str(candidate)
    return None


def main():
    greta = find_greta()
    if greta is None:
        print("analyze_b3_41_post_wo.py: no greta in build/release or in PATH; run scripts/demo.sh first", file=sys.stderr)
        return 2
    return subprocess.call([greta, "analyze", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
