"""Writes the CustomResourceDefinitions, one file a kind.

    python -m jindopy.kube.api [--check] [FOLDER]

The folder is manifests/crds of this checkout unless given.  ``--check`` writes nothing and exits 1 when a file is
stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jindopy.kube.api.crds import file_name, manifest
from jindopy.kube.api.kinds import KINDS

FOLDER = Path(__file__).parents[3] / "manifests/crds"


def main(arguments: list[str]) -> int:
    """Writes, or checks; the exit code."""
    check = "--check" in arguments
    rest = [argument for argument in arguments if argument != "--check"]
    if len(rest) > 1 or any(argument.startswith("-") for argument in rest):
        sys.stderr.write("usage: python -m jindopy.kube.api [--check] [FOLDER]\n")
        return 2
    if not rest and not FOLDER.is_dir():
        sys.stderr.write("this is no checkout: name the FOLDER\n")
        return 2
    folder = Path(rest[0]) if rest else FOLDER
    wanted = {file_name(kind): manifest(kind) for kind in KINDS}
    present = {path.name for path in folder.glob("*.yaml")}
    stale = [name for name, text in wanted.items() if name not in present or (folder / name).read_text() != text]
    extra = sorted(present - wanted.keys())
    if check:
        if stale or extra:
            sys.stderr.write(f"stale, run python -m jindopy.kube.api: {', '.join([*stale, *extra])}\n")
        return 1 if stale or extra else 0
    folder.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (folder / name).write_text(wanted[name])
    for name in extra:
        sys.stderr.write(f"{folder / name}: no kind of ours, left alone\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
