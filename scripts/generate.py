"""Makes ``jindopy/rpc/v1/gen`` from the ``.proto`` files beside it; ``make generate``.

With a directory as argument the code is written there instead, for the test that compares it with what is committed.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parents[1]
SOURCE = "jindopy/rpc/v1"
PACKAGE = "jindopy/rpc/v1/gen"


def generate(out: Path) -> int:
    """Write all modules and their stubs below ``out``; returns protoc's exit code."""
    protos = sorted(path.name for path in (ROOT / SOURCE).glob("*.proto"))
    well_known = files("grpc_tools") / "_proto"
    # A virtual folder for the sources: the modules import each other by the package they are written to.
    return protoc.main(
        [
            "protoc",
            f"--proto_path={PACKAGE}={ROOT / SOURCE}",
            f"--proto_path={well_known}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out={out}",
            f"--mypy_grpc_out={out}",
            *(f"{PACKAGE}/{name}" for name in protos),
        ]
    )


if __name__ == "__main__":
    sys.exit(generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
