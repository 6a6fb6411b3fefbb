"""What the master does beyond keeping the tree: selections of paths, pins, load jobs."""
