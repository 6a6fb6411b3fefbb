"""The kernel's side of a mount: a descriptor of /dev/fuse (linux/fuse.h)."""

class Channel:
    """Takes the descriptor over and closes it when collected."""

    def __init__(self, fd: int) -> None: ...
    def forget_name(self, directory: int, name: bytes) -> None:
        """Have the kernel forget what it knows of a name; may wait for requests on that directory."""
    def forget_content(self, nodeid: int) -> None:
        """Have the kernel drop the pages of a file; may wait for reads of it."""
