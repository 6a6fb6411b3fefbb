"""Nodes, names and numbers of the inode table as plain memory; only ``_ext.inodes`` uses it, from C (nodetree.pxd)."""
