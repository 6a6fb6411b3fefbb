"""Answers as the kernel wants them (see ``fusereply.pxd``); nothing of it is for Python."""
