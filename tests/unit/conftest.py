"""Unit tests open no network connection and no listening port: what needs one belongs into ``tests/integration``."""

from __future__ import annotations

import socket
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("connect", "connect_ex", "bind"):
        real = getattr(socket.socket, name)

        def guarded(self: socket.socket, address: Any, *, _real: Any = real, _name: str = name) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                pytest.fail(f"a unit test calls {_name}({address!r}); move it to tests/integration", pytrace=False)
            return _real(self, address)

        monkeypatch.setattr(socket.socket, name, guarded)
