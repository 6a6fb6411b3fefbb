"""The cluster as a client of it sees it: a remote namespace, and blocks from workers."""
