"""``ls``, ``stat``, ``evict``, ``pin`` and ``unpin``: what is in a mount and in its cache."""

from __future__ import annotations

import click

from jindopy.base.units import format_percent, format_size
from jindopy.cli.options import connect, connect_paths, run_dir_option
from jindopy.cli.output import (
    cached_share,
    count,
    examples,
    format_time,
    json_option,
    print_json,
    print_table,
    shown,
    tell,
)
from jindopy.control.api import EntryInfo, PathsResult

_SIGNS = {"directory": "d", "symlink": "l", "file": "-"}


@click.command(epilog=examples("jindopy ls /mnt/data", "jindopy ls --json /mnt/data/train"))
@click.argument("path", default=".")
@json_option
@run_dir_option
def ls(path: str, as_json: bool, run_dir: str | None) -> None:
    """List PATH (default: here) with size, share in the cache and pins."""
    client, located = connect(path, run_dir)
    entries = client.list_dir(located.inner_path)
    if as_json:
        print_json(entries)
        return
    rows = [
        [
            _SIGNS.get(entry.kind, "?") + ("p" if entry.pinned else " "),
            "" if entry.kind == "directory" else format_size(entry.size_bytes),
            "" if entry.kind != "file" else format_percent(entry.cached_bytes, entry.size_bytes),
            format_time(entry.mtime_ns),
            shown(entry.path.rstrip("/").rpartition("/")[2]) + ("/" if entry.kind == "directory" else ""),
        ]
        for entry in entries
    ]
    print_table(["", "SIZE", "CACHED", "CHANGED (UTC)", "NAME"], rows, right=(1, 2))


@click.command(epilog=examples("jindopy stat /mnt/data/train/part-0001", "jindopy stat --json /mnt/data"))
@click.argument("path")
@json_option
@run_dir_option
def stat(path: str, as_json: bool, run_dir: str | None) -> None:
    """Show all that is known of PATH: object, version, checksum, share in the cache."""
    client, located = connect(path, run_dir)
    entry = client.stat(located.inner_path)
    if as_json:
        print_json(entry)
    else:
        for name, value in _facts(entry):
            click.echo(f"{name:<9} {value}")


def _facts(entry: EntryInfo) -> list[tuple[str, str]]:
    facts = [("path", "/" + shown(entry.path)), ("kind", entry.kind), ("object", shown(entry.ufs))]
    if entry.kind == "file":
        facts += [
            ("size", f"{entry.size_bytes} bytes ({format_size(entry.size_bytes)})"),
            ("cached", cached_share(entry.cached_bytes, entry.size_bytes)),
            ("etag", entry.etag or "none"),
            ("crc64", "unknown until read" if entry.crc64 is None else f"{entry.crc64} ({entry.crc64:016x})"),
        ]
    elif entry.kind == "directory":
        facts += [
            ("cached", f"{cached_share(entry.cached_bytes, entry.size_bytes)}, of the files below it that are known")
        ]
    facts += [
        ("changed", f"{format_time(entry.mtime_ns)} UTC"),
        ("pinned", "yes" if entry.pinned else "no"),
        ("inode", str(entry.inode)),
    ]
    return facts


def _report(done: str, results: list[PathsResult], as_json: bool) -> int:
    total = PathsResult(
        files=sum(result.files for result in results),
        bytes=sum(result.bytes for result in results),
        messages=[message for result in results for message in result.messages],
    )
    if as_json:
        print_json(total)
    else:
        click.echo(f"{done} {count(total.files, 'file')}, {format_size(total.bytes)}")
        for message in total.messages:
            tell(shown(message))
    return 1 if total.messages else 0


@click.command(epilog=examples("jindopy evict /mnt/data/old", "jindopy evict '/mnt/data/*.tmp'"))
@click.argument("paths", nargs=-1, required=True)
@json_option
@run_dir_option
def evict(paths: tuple[str, ...], as_json: bool, run_dir: str | None) -> int:
    """Drop files or whole directories from the cache, and from the kernel's memory.

    The storage keeps them, so the next read fetches them anew; pinned files stay.
    """
    results = [client.evict(inner) for client, _, inner in connect_paths(paths, run_dir)]
    return _report("evicted", results, as_json)


@click.command(epilog=examples("jindopy pin /mnt/data/model", "jindopy load /mnt/data/model"))
@click.argument("paths", nargs=-1, required=True)
@json_option
@run_dir_option
def pin(paths: tuple[str, ...], as_json: bool, run_dir: str | None) -> int:
    """Keep files or whole directories in the cache, later versions too.  Load them to have them there now."""
    results = [client.pin(inner) for client, _, inner in connect_paths(paths, run_dir)]
    return _report("pinned", results, as_json)


@click.command(epilog=examples("jindopy unpin /mnt/data/model"))
@click.argument("paths", nargs=-1, required=True)
@json_option
@run_dir_option
def unpin(paths: tuple[str, ...], as_json: bool, run_dir: str | None) -> int:
    """Let pinned files or directories be evicted again."""
    results = [client.unpin(inner) for client, _, inner in connect_paths(paths, run_dir)]
    return _report("unpinned", results, as_json)
