"""Paths as users write them for load, evict and pin, checked and taken apart.

    train/part-*.rec       ``*``, ``?`` and ``[..]`` within a component, as in a shell; a leading dot is nothing special
    train/**/*.jpg         ``**`` stands for any number of directories, none included
    oss://bucket/train     the same by the UFS's name; it must lie inside a mount

What is selected brings everything below it along.  A component also matches the name that equals it letter by letter,
so a file called ``a[1].txt`` can be named as it is.  Paths that exist and globs that match are the business of
``selection``.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from typing import Final, NamedTuple, final

from jindopy.base.errors import UsageError
from jindopy.namespace.api import MountInfo
from jindopy.namespace.keys import name_fault, split_path
from jindopy.ufs import uri as uris

PATHS_MAX: Final = 10_000
"""Paths in one request: what a shell expands a glob to; beyond that the directory is meant."""
PATH_BYTES_MAX: Final = 4096
"""PATH_MAX of Linux."""

_WILD: Final = re.compile(rb"[*?[]")


@final
class _Component:
    """One component with wildcards."""

    __slots__ = ("_regex", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._regex = re.compile(fnmatch.translate(os.fsdecode(text)))

    def matches(self, name: bytes) -> bool:
        return name == self.text or self._regex.match(os.fsdecode(name)) is not None


Part = _Component | bytes
"""A component of a pattern, with wildcards or literal."""

ANY_DEPTH: Final = _Component(b"**")
"""Stands for any number of directories."""


class Pattern(NamedTuple):
    """A path: literal components, then, if it has wildcards, the rest from the first of those on."""

    base: bytes
    """Slash-separated literal path; empty is the root."""
    rest: tuple[Part, ...]
    """Components below ``base``; the first is a wildcard.  Empty: the path is literal."""

    @property
    def text(self) -> bytes:
        """The path as text."""
        names = [part if isinstance(part, bytes) else part.text for part in self.rest]
        return b"/".join([self.base, *names] if self.base else names)

    def selects(self, path: bytes) -> bool:
        """Whether the path itself or a directory above it is matched."""
        if not is_below(path, self.base):
            return False
        if not self.rest:
            return True
        states = self._closure({0})
        for name in split_path(path[len(self.base) :]):
            if len(self.rest) in states:
                return True
            states = self._closure({after for state in states for after in self._step(state, name)})
            if not states:
                return False
        return len(self.rest) in states

    def _step(self, state: int, name: bytes) -> tuple[int, ...]:
        part = self.rest[state] if state < len(self.rest) else None
        if part is ANY_DEPTH:
            return (state,)
        if part is None:
            return ()
        return (state + 1,) if matches(part, name) else ()

    def _closure(self, states: set[int]) -> set[int]:
        """Add what is reached by letting ``**`` stand for nothing."""
        for state in list(states):
            # Two ``**`` never follow one another (``_parse``): one step is all.
            if state < len(self.rest) and self.rest[state] is ANY_DEPTH:
                states.add(state + 1)
        return states

    def covers(self, other: Pattern) -> bool:
        """Whether all that ``other`` may ever select is selected by this (false when it takes thought to tell)."""
        if not self.rest:
            return is_below(other.base, self.base)
        return self.text == other.text


def matches(part: Part, name: bytes) -> bool:
    """Whether one component matches a name."""
    return name == part if isinstance(part, bytes) else part.matches(name)


def is_below(path: bytes, directory: bytes) -> bool:
    """Whether ``path`` is ``directory`` or inside it."""
    return not directory or path == directory or path.startswith(directory + b"/")


def parse(paths: Sequence[str], mounts: Sequence[MountInfo], *, literal: bool = False) -> list[Pattern]:
    """Patterns of a request without those another one covers; none given: the whole tree.

    ``literal``: wildcards mean themselves.  Raises UsageError.
    """
    if len(paths) > PATHS_MAX:
        raise UsageError(f"{len(paths)} paths are too many (at most {PATHS_MAX}): name the directory, or use a glob")
    by_text = {pattern.text: pattern for pattern in (_parse(text, mounts, literal) for text in paths or [""])}
    kept: list[Pattern] = []
    literal_last: Pattern | None = None
    for pattern in sorted(by_text.values(), key=lambda pattern: split_path(pattern.text)):
        # In this order a literal path comes before all that it covers, with only such paths between.
        if literal_last is not None and literal_last.covers(pattern):
            continue
        if not pattern.rest:
            literal_last = pattern
        kept.append(pattern)
    return kept


def _parse(text: str, mounts: Sequence[MountInfo], literal: bool) -> Pattern:
    names = _names(text, mounts)
    for name in names:
        fault = name_fault(name)
        if fault is not None:
            raise UsageError(f"not a path below the mount point: {_shown(text)} ({fault})")
    wilds = (index for index, name in enumerate(names) if _WILD.search(name) and not literal)
    wild = next(wilds, len(names))
    rest: list[Part] = []
    for name in names[wild:]:
        if name != b"**":
            rest.append(_Component(name) if _WILD.search(name) else name)
        elif not rest or rest[-1] is not ANY_DEPTH:
            rest.append(ANY_DEPTH)
    return Pattern(b"/".join(names[:wild]), tuple(rest))


def _names(text: str, mounts: Sequence[MountInfo]) -> list[bytes]:
    try:
        raw = os.fsencode(text)
    except UnicodeEncodeError:
        raise UsageError(f"not a path: {_shown(text)} holds characters no file name can have") from None
    if len(raw) > PATH_BYTES_MAX:
        raise UsageError(f"a path of {len(raw)} bytes is too long (at most {PATH_BYTES_MAX}): {_shown(text)}")
    if "://" not in text:
        return [name for name in split_path(raw) if name != b"."]
    return split_path(_inside(text, mounts))


def _inside(text: str, mounts: Sequence[MountInfo]) -> bytes:
    """Path of a UFS URI below the root; when mounts overlap the innermost has it."""
    wanted = uris.parse(text)
    found: tuple[int, bytes] | None = None
    for mount in mounts:
        known = uris.parse(mount.uri)
        if (known.scheme, _store(known)) != (wanted.scheme, _store(wanted)):
            continue
        base, path = known.path.rstrip("/"), wanted.path.rstrip("/")
        if base and path != base and not path.startswith(base + "/"):
            continue
        if found is None or len(base) > found[0]:
            found = (len(base), mount.path + b"/" + os.fsencode(path[len(base) :]))
    if found is None:
        raise UsageError(
            f"{_shown(text)} is not inside this mount; it shows {', '.join(mount.uri for mount in mounts) or 'nothing'}"
        )
    return found[1]


def _store(uri: uris.UfsUri) -> str:
    """What names the storage: of ``bucket.endpoint`` only the bucket, as in ``Driver.ufs_id``."""
    return uri.authority.split(".")[0] if uri.scheme == "oss" else uri.authority


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "...")
