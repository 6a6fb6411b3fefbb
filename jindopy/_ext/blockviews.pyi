"""What goes into and comes out of a block store, for ``blockstore``, which shows it to everybody else."""

from pathlib import Path

from jindopy._ext.blockstore import FileStat as FileStat
from jindopy._ext.blockstore import ScrubResult as ScrubResult
from jindopy._ext.blockstore import TierSpec as TierSpec
from jindopy._ext.blockstore import TierStat as TierStat

def check_specs(specs: list[TierSpec]) -> None:
    """Raise ValueError when no store can be made of them."""

def lock_directory(root: Path, path: str) -> int:
    """A descriptor that holds the directory as long as it is open; raises CacheBusy naming the owner's pid."""
