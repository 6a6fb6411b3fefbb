"""What the block store knows in memory; everything but the sizes is for other native modules."""

def sizes() -> dict[str, int]:
    """Bytes of one ``entry``, one ``segment`` (of one block) and one ``handle``."""
