"""Which nodes go when the inode table is over its bound; only ``_ext.inodes`` uses it, from C (nodetrim.pxd)."""
