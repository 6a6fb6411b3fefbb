"""Requests whose answers Python has to find (see ``fuseask.pxd``); nothing of it is for Python."""
