"""CRC-64/XZ, bit by bit."""

POLY_REFLECTED = 0xC96C5795D7870F42
ALL_ONES = 0xFFFFFFFFFFFFFFFF


def crc64(data: bytes, crc: int = 0) -> int:
    """CRC of ``data`` appended to bytes whose CRC is ``crc``."""
    state = crc ^ ALL_ONES
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (POLY_REFLECTED if state & 1 else 0)
    return state ^ ALL_ONES


def combine(first: int, second: int, second_bytes: int) -> int:
    """CRC of the concatenation, by appending as many zero bytes as the second part has."""
    zeros = crc64(bytes(second_bytes), first) ^ crc64(bytes(second_bytes))
    return zeros ^ second
