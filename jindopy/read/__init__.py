"""How a read finds its bytes: sources in order, read-ahead."""
