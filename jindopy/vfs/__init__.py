"""What the tree means, for any transport; has never heard of FUSE."""
