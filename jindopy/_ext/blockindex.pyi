"""The records of a tier's index as bytes (docs/FORMATS.md), for tests and tools; the store uses the C view."""

from typing import NamedTuple

FORMAT_VERSION: int

class IndexRecord(NamedTuple):
    """Fields that its kind does not have are 0 or empty."""

    kind: str
    """``put``, ``drop`` or ``pin``."""
    cid: bytes
    """16 bytes."""
    block: int
    block_count: int
    size: int
    owner: int
    pinned: bool
    stamp: int
    disk_bytes: int
    """Kept in units of 4 KiB."""
    crcs: tuple[int, ...]
    """Of a put, 1 to 8: of the block up to the end of each piece."""

def encode_record(record: IndexRecord) -> bytes:
    """The record's one or two slots of 64 bytes; two when it has more than one CRC."""

def decode_record(slots: bytes) -> IndexRecord | None:
    """The record in these bytes, None when they are damaged or not just one record."""

def encode_header(
    snapshot: bool, boot: bytes, directory_bytes: int = 0, format_version: int = 3, min_reader: int = 3
) -> bytes:
    """The first 64 bytes of a log or a snapshot."""
