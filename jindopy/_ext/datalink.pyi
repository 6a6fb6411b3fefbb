"""Receives blocks on one connection, for ``dataclient``; nothing here is for Python."""
