"""The table of metrics: every counter of the program, with unit, labels and stability.

Rooms increment these objects directly, ``status`` reads them.  Nothing here is touched per FUSE request: hot counters
live beside what they count, and ``status`` asks there.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

REGISTRY = CollectorRegistry(auto_describe=True)

UFS_REQUESTS = Counter(
    "jindopy_ufs_requests_total",
    "Requests sent to a UFS, tries counted one by one",
    ["scheme", "operation", "outcome"],  # operation: get, head, list, put, ...; outcome: ok or the error's class name
    registry=REGISTRY,
)
UFS_BYTES = Counter("jindopy_ufs_read_bytes_total", "Body bytes received from a UFS", ["scheme"], registry=REGISTRY)
UFS_RETRIES = Counter(
    "jindopy_ufs_retries_total", "Tries after the first", ["scheme", "operation", "cause"], registry=REGISTRY
)
READ_BYTES = Counter(
    "jindopy_read_bytes_total",
    "Bytes answered to readers without the cache, which could not take them",
    ["source"],  # ufs
    registry=REGISTRY,
)
READS_STALE = Counter(
    "jindopy_reads_stale_total", "Reads answered ESTALE: the version is gone everywhere", registry=REGISTRY
)
SYNC_SKIPPED_KEYS = Counter(
    "jindopy_sync_skipped_keys_total", "Listed keys that no path can hold", ["reason"], registry=REGISTRY
)
CRC_FAILURES = Counter(
    "jindopy_crc_failures_total", "Blocks whose checksum did not match", ["where"], registry=REGISTRY
)
PEER_BYTES = Counter("jindopy_peer_read_bytes_total", "Bytes received from workers", registry=REGISTRY)
PEER_FAILURES = Counter(
    "jindopy_peer_failures_total",
    "Reads that a worker failed; another worker or the storage answered them",
    ["cause"],  # the error's class name
    registry=REGISTRY,
)


def value(metric: Counter, **labels: str) -> float:
    """Sum of a metric's samples whose labels include ``labels``."""
    total = 0.0
    for family in metric.collect():
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue
            if all(sample.labels.get(name) == wanted for name, wanted in labels.items()):
                total += sample.value
    return total
