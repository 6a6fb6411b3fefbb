"""Cache files that the kernel reads by itself on behalf of programs: for native callers only."""
