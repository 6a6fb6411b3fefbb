"""Files of pseudo-random bytes: cheap to make, not compressible, the same every time."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

PIECE_BYTES = 1 << 20


def write_file(path: Path, size_bytes: int, seed: int = 1) -> None:
    """Write it in 1 MiB pieces, as an ordinary program would."""
    source = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb", buffering=0) as file:
        left = size_bytes
        while left:
            piece = source.randbytes(min(left, PIECE_BYTES))
            file.write(piece)
            left -= len(piece)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
