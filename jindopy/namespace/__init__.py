"""The tree of names: store, listing, mount table, behind ``namespace.api``."""
