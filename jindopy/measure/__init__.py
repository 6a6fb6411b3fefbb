"""Measuring a store or a directory from outside, and saying what limits it."""
