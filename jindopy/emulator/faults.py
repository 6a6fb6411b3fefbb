"""What goes wrong on purpose, and how fast everything else goes.  P.

``Conditions`` is the part of the settings that may change while the server runs; it travels as JSON through the
control endpoint and the shared memory.  Rules are asked in order, the first that strikes decides.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from jindopy.emulator.routing import OPERATIONS

KINDS: Final = ("error", "reset", "truncate", "slow", "corrupt")
RULES_MAX: Final = 16

ERROR_CODES: Final = {
    403: "AccessDenied",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One fault and when it strikes."""

    kind: str
    """``error``: ``status`` and ``code`` instead of an answer, nothing is done.  ``reset``: the connection is reset
    when ``after_bytes`` of the body are out.  ``truncate``: the connection ends there in order, short of the announced
    length.  ``slow``: ``delay_seconds`` before the first byte, then ``bytes_per_second``.  ``corrupt``: one bit of the
    body is flipped."""
    rate: float = 1.0
    """Share of the requests that it strikes."""
    operations: tuple[str, ...] = ()
    """Only these; empty: all."""
    key_prefix: str = ""
    """Only keys that begin so."""
    limit: int = 0
    """Strikes so many times at most, over all processes; 0: for ever."""
    status: int = 503
    code: str = ""
    """Empty: the usual code of the status."""
    after_bytes: int = -1
    """-1: half of the body."""
    delay_seconds: float = 0.0
    bytes_per_second: int = 64 << 10

    def matches(self, operation: str, key: bytes) -> bool:
        """Whether the request is of the kind this rule strikes."""
        if self.operations and operation not in self.operations:
            return False
        return not self.key_prefix or key.startswith(self.key_prefix.encode("utf-8", "surrogateescape"))

    @property
    def error_code(self) -> str:
        """Code of the error body."""
        return self.code or ERROR_CODES.get(self.status, "InternalError")


@dataclass(frozen=True, slots=True)
class Conditions:
    """Line, clock and faults."""

    latency_seconds: float = 0.0
    """From the end of a request to the first byte of its answer."""
    bandwidth_bytes: int = 0
    """Bytes per second over all connections and processes, each way; 0: no limit."""
    bandwidth_per_client_bytes: int = 0
    """Bytes per second of one connection; 0: no limit."""
    clock_offset_seconds: float = 0.0
    """How far the server's clock is ahead."""
    faults: tuple[FaultRule, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Conditions:
        """Check and build; raises ValueError naming what is wrong."""
        known = _checked(value, {item.name: item.type for item in fields(cls)}, "conditions")
        rules = known.pop("faults", [])
        if not isinstance(rules, list | tuple) or len(rules) > RULES_MAX:
            raise ValueError(f"faults: a list of at most {RULES_MAX} rules is due")
        conditions = cls(**known, faults=tuple(_rule(rule) for rule in rules))
        if min(conditions.latency_seconds, conditions.bandwidth_bytes, conditions.bandwidth_per_client_bytes) < 0:
            raise ValueError("latency and bandwidths are not negative")
        return conditions


def _rule(value: Any) -> FaultRule:
    known = _checked(value, {item.name: item.type for item in fields(FaultRule)}, "fault")
    operations = known.pop("operations", [])
    if not isinstance(operations, list | tuple) or not set(operations) <= set(OPERATIONS):
        raise ValueError(f"operations: some of {', '.join(OPERATIONS)} are due")
    if known.get("kind") not in KINDS:
        raise ValueError(f"kind: one of {', '.join(KINDS)} is due")
    rule = FaultRule(**known, operations=tuple(operations))
    if not 0.0 <= rule.rate <= 1.0:
        raise ValueError("rate: a share between 0 and 1 is due")
    if not 400 <= rule.status <= 599:
        raise ValueError("status: an error status (400 to 599) is due")
    if rule.bytes_per_second <= 0 or rule.delay_seconds < 0 or rule.limit < 0 or rule.after_bytes < -1:
        raise ValueError("bytes_per_second, delay_seconds, limit and after_bytes are not negative")
    return rule


def _checked(value: Any, types: dict[str, Any], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what}: an object is due")
    known: dict[str, Any] = {}
    for name, given in value.items():
        wanted = str(types.get(name, ""))
        if not wanted:
            raise ValueError(f"{what}: {name!r} is not known; known are {', '.join(types)}")
        if wanted == "str":
            valid = isinstance(given, str)
        elif wanted in ("int", "float"):
            valid = isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
        else:
            valid = True
        if not valid:
            raise ValueError(f"{what}: {name} has the wrong type")
        known[name] = int(given) if wanted == "int" else given
    return known


def fail_rules(rate: float, kinds: tuple[str, ...]) -> tuple[FaultRule, ...]:
    """Rules by which altogether ``rate`` of the requests fail, the kinds equally often; raises ValueError.

    Rules are asked one after the other, so a later one sees fewer requests and needs a larger share of them.
    """
    rules = []
    for index, kind in enumerate(kinds):
        share = rate / len(kinds)
        rest = 1.0 - share * index
        name, status = ("error", int(kind)) if kind.isdigit() else (kind, 503)
        rules.append(_rule({"kind": name, "rate": min(1.0, share / rest), "status": status}))
    return tuple(rules)
