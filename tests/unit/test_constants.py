"""Relations between constants that stand in different files."""

from __future__ import annotations

import hashlib

from jindopy.base import ident


def test_an_extent_holds_whole_blocks() -> None:
    assert ident.EXTENT_BYTES % ident.BLOCK_BYTES == 0
    assert ident.EXTENT_BYTES > ident.BLOCK_BYTES


def test_a_block_is_a_power_of_two_and_whole_pages() -> None:
    assert ident.BLOCK_BYTES & (ident.BLOCK_BYTES - 1) == 0
    assert ident.BLOCK_BYTES % 65536 == 0  # the largest page size of the supported machines (aarch64)


def test_a_cid_is_a_digest_blake2b_can_give() -> None:
    assert 16 <= ident.CID_BYTES <= hashlib.blake2b.MAX_DIGEST_SIZE


def test_the_root_is_the_number_the_kernel_asks_first() -> None:
    assert ident.ROOT_INODE == 1  # FUSE_ROOT_ID
