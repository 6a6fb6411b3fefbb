"""Reads one file through the cache without a mount, as a process of its own; prints seconds and SHA-256 as JSON.

    python -m bench.lib.python_reader UFS PATH

For machines that may not mount.  Settings come from the environment, as a mount's would.  The time is that of the first
pass, with opening cache and namespace; the digest is made in a second one.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time

from jindopy.config.facts import gather
from jindopy.config.load import load
from jindopy.config.rationalize import directories, mount_settings, tier_paths
from jindopy.modes.reader import read_file


def main(ufs: str, path: str) -> None:
    loaded = load(environ=os.environ)
    dirs = directories(loaded.settings, gather(os.environ, []))
    facts = gather(os.environ, tier_paths(loaded.settings, dirs))
    settings, _ = mount_settings(loaded, facts, mount_point="/nowhere", ufs=[ufs])
    start = time.perf_counter()
    size = sum(len(block) for block in read_file(settings, os.fsencode(path)))
    seconds = time.perf_counter() - start
    digest = hashlib.sha256()
    for block in read_file(settings, os.fsencode(path)):
        digest.update(block)
    print(json.dumps({"seconds": seconds, "bytes": size, "sha256": digest.hexdigest()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
