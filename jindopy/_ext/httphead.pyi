"""Headers of an answer → the facts that decide whether its body is wanted.  The rest is for other native modules."""

def parse_head(lines: list[bytes]) -> tuple[int, int, bytes, bytes, int | None, bool, dict[str, str]] | None:
    """Lines as a connection brings them → status, length (-1: none), token, content range, CRC-64, whether headers that
    matter contradict each other, and all fields; None when they are too large.  For tests.
    """
