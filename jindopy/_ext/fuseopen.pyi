"""A channel that knows which files are open, and how: for the session alone."""

from jindopy._ext.fusechannel import Channel

class Opener(Channel):
    """Files of one mount."""

    @property
    def file_count(self) -> int:
        """Files at hand: open, or open not long ago."""
    @property
    def passing(self) -> bool:
        """Whether files are passed, as far as is known: the kernel answers at the first request and the first OPEN."""
    @property
    def pass_error(self) -> int:
        """The errno with which the kernel refused to take a cache file, after which it is asked no more; else 0."""
    tells: bool
    """Have ``Handlers.open`` called for every file that is opened, not only for those that are not wholly cached."""
