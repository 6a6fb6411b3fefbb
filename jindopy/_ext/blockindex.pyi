"""The records of a tier's index as bytes (docs/FORMATS.md), for tests and tools; the store uses the C view."""

from typing import NamedTuple

FORMAT_VERSION: int

class IndexRecord(NamedTuple):
    """One slot; fields that its kind does not have are 0 or empty."""

    kind: str
    """``put``, ``run``, ``drop`` or ``pin``."""
    cid: bytes
    """16 bytes; of a run only the first 8 count."""
    block: int
    block_count: int
    size: int
    owner: int
    pinned: bool
    stamp: int
    disk_bytes: int
    """Kept in units of 4 KiB."""
    crcs: tuple[int, ...]

def encode_record(record: IndexRecord) -> bytes:
    """The 64 bytes of a record."""

def decode_record(slot: bytes) -> IndexRecord | None:
    """The record in 64 bytes, None when they are damaged."""

def encode_header(
    snapshot: bool, boot: bytes, directory_bytes: int = 0, format_version: int = 1, min_reader: int = 1
) -> bytes:
    """The first 64 bytes of a log or a snapshot."""
