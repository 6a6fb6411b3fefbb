"""Native threads that carry out transfers by libcurl: but for how one ended, all is for other native modules."""

from typing import NamedTuple

class Ending(NamedTuple):
    """How a transfer ended."""

    outcome: str
    """``done``, ``failed`` (``code`` says why), ``cancelled``, ``deadline``, ``silent``, ``unwanted``, ``head``,
    ``memory``."""
    code: int
    """libcurl's, where it failed."""
    system_error: int
    """errno below it, or 0."""
    text: str
    """libcurl's own words; holds no header and no query."""

def libcurl_version() -> str:
    """What it calls itself."""
