"""What benchmark scenarios share: figures and bars, page cache, cgroup, mounts, a reader in C."""
