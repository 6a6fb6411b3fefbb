"""The service around a cache: loads what it is told to."""
