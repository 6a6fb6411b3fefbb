"""Blocks from machine to machine: tickets, the opening of a connection, and the frames in plain Python."""
