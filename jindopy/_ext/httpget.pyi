"""GETs by native threads that never hold the GIL: connections, TLS, proxies and bodies (libcurl underneath).

A ``Getter`` has up to ``connections`` threads, each with one kept connection.  ``open`` sends a signed request and
returns a ``Stream``, whose caller waits, and reads straight into its own memory, without the GIL.  Nothing is
repeated, no redirect is followed, no header is added that was not asked for but Host, User-Agent and Accept.
"""

from typing import final

from jindopy._ext.httpblocks import BlockGet
from jindopy._ext.httpcrew import Ending

@final
class DownloadLimit:
    """A bound of bytes a second, shared by all that are given it."""

    def __init__(self, bytes_per_second: float) -> None: ...
    def reserve(self, byte_count: int, /) -> float:
        """Take so many bytes; returns the seconds to wait before using them."""

@final
class Stream:
    """One answer on its way.  Belongs to one thread."""

    def wait_head(self) -> bool:
        """Wait for the headers; False: none will come in time (see ``ending``)."""
    @property
    def status(self) -> int: ...
    @property
    def length(self) -> int:
        """Content-Length; -1: none, or several that contradict each other."""
    @property
    def headers(self) -> dict[str, str]:
        """Names in lower case."""
    @property
    def ending(self) -> Ending | None:
        """None while bytes may still come."""
    def readinto(self, target: memoryview) -> int:
        """Fill ``target``; fewer bytes only when the transfer has ended, or its time."""
    def close(self) -> None:
        """End the transfer; its connection is kept if the body was read to its end."""

@final
class Getter:
    """Threads and connections for one endpoint.  Safe for threads."""

    def __init__(
        self,
        connections: int,
        *,
        connect_seconds: float,
        silence_seconds: float,
        ca_file: str = "",
        ca_path: str = "",
        proxy: str = "",
        proxy_authorization: str = "",
    ) -> None:
        """Without ``ca_file`` and ``ca_path`` the system's authorities are trusted."""
    def share(self, limit: DownloadLimit) -> None:
        """Keep to a limit from now on."""
    def open(self, url: str, headers: dict[str, str], seconds: float) -> Stream:
        """Send a GET that must have ended in so many seconds; returns at once.  ValueError for what is no header."""
    def start(self, url: str, headers: dict[str, str], seconds: float, get: BlockGet) -> None:
        """Send a GET whose blocks go to ``get``, which its queue tells of; returns at once."""
    @property
    def connections(self) -> int:
        """How many threads there are now."""
    def close(self) -> None:
        """End all transfers and threads; harmless when repeated."""

def live_counts() -> dict[str, int]:
    """``transfers`` alive in this process."""
