"""Tables of the namespace file: this module is their manual.

Migrations are sqlite-utils functions, one a step, never edited once released; ``migrate`` applies what is missing.
Importing this module costs 12 MB (sqlite-utils), so the store imports it only when a file is new or older.

Conventions: times are nanoseconds since 1970 UTC.  Names, keys and paths are BLOBs.  In ``inode`` NULL means "as the
mount says": it costs no byte, and a mount started with another umask changes all its files at once.

*Generations* are drawn from one counter of the file (``meta.next_generation``), one for each listing begun, so a later
listing of whatever directory has a higher number.  What a directory shows at generation G are its rows with
``sync_gen <= G`` and ``gone_gen`` NULL or above G: a listing can write as it goes, and if it fails or the process dies,
the names of the last complete generation are still what is shown.

Inode numbers come from ``meta.next_inode`` and are never used twice.  The top 12 of their 63 bits are 0: they are left
for the number of a shard.

Superseded versions of objects have no table: nothing reads one through the namespace.  Open files carry the token of
their version with them.
"""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from jindopy.namespace.sqlite_file import FORMAT_VERSION, MIN_READER

migrations = Migrations("jindopy.namespace")


@migrations()
def v1_tables(db: Database) -> None:
    """Everything format 1 has."""
    db.table("meta").create(
        {
            "key": str,  # format_version, min_reader, next_inode, next_generation, next_mount, clean
            "value": int,
        },
        pk="key",
        not_null={"key", "value"},
    )
    db.table("mount").create(
        {
            "id": int,  # from meta.next_mount: stays while (path, ufs_id, prefix) stay, never used twice
            "path": bytes,  # where it shows below the root, without slashes at the ends; empty is the root
            "ufs_id": str,  # names the storage whatever the endpoint (Driver.ufs_id)
            "uri": str,  # as the user gave it, without secrets: for display
            "mode": str,  # "cache": keys are paths and the UFS is the truth; block mode will be another
            "prefix": bytes,  # keys start with it; empty or ending in "/"
            "root": int,  # inode of the directory at "path"
            "options": str,  # JSON object of driver options without secrets
            "cred_ref": str,  # names where credentials come from, never holds them
            "ttl_ms": int,  # how long a listing is believed; NULL: for ever
            "read_only": int,
            "tenant": str,  # whose dataset this is; empty: nobody's in particular
        },
        pk="id",
        not_null={"path", "ufs_id", "uri", "mode", "prefix", "root", "options", "cred_ref", "read_only", "tenant"},
    )
    db.table("mount").create_index(["path"], unique=True)
    db.table("inode").create(
        {
            "id": int,
            "parent": int,  # 0 for the root
            "name": bytes,  # 1 to 255 bytes, no "/" and no NUL; empty for the root
            "mount": int,  # 0: a directory that exists only to lead to mounts
            "kind": int,  # base.ident.Kind
            "perm": int,  # permission bits; NULL: the mount's
            "uid": int,  # NULL: the mount's
            "gid": int,  # NULL: the mount's
            "nlink": int,  # NULL: 1
            "size": int,  # bytes; 0 for directories
            "mtime_ns": int,  # Last-Modified; a directory's is its marker object's, NULL: the mount's start
            "version": int,  # counts the tokens this inode has had, from 1
            "token": bytes,  # etag as sent without quotes, else "size-mtime_ns"; empty for directories
            "crc64": int,  # CRC-64/XZ as a signed number, once a HEAD or GET told it
            "sync_gen": int,  # generation that brought this row
            "gone_gen": int,  # generation that did not find it any more; the row goes when that one is complete
            "checked_ns": int,  # when a HEAD last confirmed this row on its own; NULL: never
        },
        pk="id",
        not_null={"parent", "name", "mount", "kind", "size", "version", "token", "sync_gen"},
    )
    db.table("inode").create_index(["parent", "name"], unique=True)
    # Finds the directories below a directory without touching its files: sums and tree listings walk this one.
    db.execute("CREATE INDEX inode_directories ON inode(parent, name) WHERE kind = 1")
    db.table("dir_state").create(
        {
            "inode": int,
            "complete_gen": int,  # generation of the last complete listing; 0: never
            "listed_ns": int,  # when the first request of that listing was sent: its age counts from there
            "running_gen": int,  # generation of a listing begun and not completed; 0: none
            "started_ns": int,  # when that one began
            "cursor": str,  # where it goes on; empty: at the start
            "bound": bytes,  # names up to here are done (diff.decided)
        },
        pk="inode",
        not_null={"complete_gen", "listed_ns", "running_gen", "started_ns", "cursor", "bound"},
    )
    db.table("trash").create(
        {"inode": int},  # a directory dropped with everything below, whose rows are still to be deleted in small steps
        pk="inode",
    )
    db.table("skipped").create(
        {
            "mount": int,
            "key": bytes,  # up to the component that no path can hold
            "reason": str,  # namespace.keys.REASONS
            "directory": int,  # inode of the directory whose listing met it
            "generation": int,  # of that listing: rows of older ones go when a newer one completes
        },
        pk=("mount", "key"),
        not_null={"reason", "directory", "generation"},
    )
    db.table("skipped").create_index(["directory"])
    db.table("pin").create(
        {
            "mount": int,
            "path": bytes,  # prefix of paths, below the root of the tree
            "created_ns": int,
        },
        pk=("mount", "path"),
        not_null={"created_ns"},
    )
    db.table("tree_sync").create(
        {
            "inode": int,  # top of a tree being listed; the row goes when all of it is
            "generation": int,  # directories whose complete_gen is above this are done
        },
        pk="inode",
        not_null={"generation"},
    )
    db.table("flat_sync").create(
        {
            "inode": int,  # top of a tree being listed without a delimiter
            "generation": int,  # of the tree_sync it is part of
            "cursor": str,  # where it goes on; directories it is inside of then are listed on their own
        },
        pk="inode",
        not_null={"generation", "cursor"},
    )
    db.table("job").create(
        {
            "id": str,
            "spec": str,  # JSON, the load engine's own
            "state": str,
            "cursor": str,  # where it goes on after a restart
            "created_ns": int,
        },
        pk="id",
        not_null={"spec", "state", "cursor", "created_ns"},
    )


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to this release's format."""
    # A single connection in autocommit mode: sqlite-utils opens its own transactions.
    migrations.apply(Database(connection))
    connection.executemany(
        "INSERT INTO meta(key, value) VALUES (?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
        [("format_version", FORMAT_VERSION), ("min_reader", MIN_READER)],
    )
    connection.executemany(
        "INSERT INTO meta(key, value) VALUES (?, ?) ON CONFLICT(key) DO NOTHING",
        # Inode 1 is the root.
        [("next_inode", 2), ("next_generation", 1), ("next_mount", 1), ("clean", 1)],
    )
