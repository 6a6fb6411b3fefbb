"""Nodes whose cache file is at hand (see ``fusefiles.pxd``); nothing of it is for Python."""
