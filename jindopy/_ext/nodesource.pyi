"""Of which object a node is a version: for native callers only."""
