from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jindopy.base.errors import TicketRefused
from jindopy.dataplane import ticket

SECRET = bytes(range(32))
KEYS = {"k1": SECRET, "k2": b"x" * 32}
NOW = 1_700_000_000.0


def test_a_ticket_says_what_it_was_signed_for() -> None:
    signed = ticket.sign("k1", SECRET, [7, 2**64 - 1], NOW)
    assert ticket.check(signed, KEYS, NOW) == ("k1", frozenset({7, 2**64 - 1}), int(NOW) + 600)


@pytest.mark.parametrize(("later", "good"), [(-60, True), (-61, False), (600, True), (660, True), (661, False)])
def test_it_lasts_ten_minutes_and_clocks_may_differ_by_one(later: float, good: bool) -> None:
    signed = ticket.sign("k1", SECRET, [7], NOW)
    if good:
        assert ticket.check(signed, KEYS, NOW + later).mounts == {7}
    else:
        with pytest.raises(TicketRefused, match="expired" if later > 0 else "future"):
            ticket.check(signed, KEYS, NOW + later)


def test_keys_change_without_a_gap_and_end() -> None:
    signed = ticket.sign("k2", KEYS["k2"], [7], NOW)
    assert ticket.check(signed, KEYS, NOW)
    with pytest.raises(TicketRefused, match="no key of this server"):
        ticket.check(signed, {"k1": SECRET}, NOW)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_byte_of_it_can_be_changed(at: int, change: int) -> None:
    signed = bytearray(ticket.sign("k1", SECRET, [7, 8], NOW))
    signed[at % len(signed)] ^= change
    with pytest.raises(TicketRefused):
        ticket.check(bytes(signed), KEYS, NOW)


@given(st.binary(max_size=200))
def test_garbage_is_refused_without_showing_a_secret(garbage: bytes) -> None:
    with pytest.raises(TicketRefused) as caught:
        ticket.check(garbage, KEYS, NOW)
    assert SECRET.hex() not in str(caught.value)


def test_bounds_of_a_ticket() -> None:
    assert ticket.sign("k1", SECRET, range(240), NOW)
    for key_id, secret, mounts in (
        ("k1", SECRET, range(300)),
        ("k1", b"short", [1]),
        ("", SECRET, [1]),
        ("k", SECRET, []),
    ):
        with pytest.raises(ValueError):
            ticket.sign(key_id, secret, mounts, NOW)
