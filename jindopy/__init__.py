"""jindopy: a distributed cache that makes object storage read like a local disk."""

__version__ = "0.1.0"
