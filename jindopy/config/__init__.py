"""One table of settings, read from file, environment and flags into frozen dataclasses."""
