"""Interfaces (.pyi, .pxd) of the native modules; the machines are in ``ext/*.pyx``.

Nothing is imported here: each module is loaded by whoever needs it.
"""
