"""The conversation between the command line and a running mount."""
