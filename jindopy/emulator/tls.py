"""A connection over TLS: no sendfile, and what the library has already decrypted does not wake the loop."""

from __future__ import annotations

import ssl

from jindopy.emulator.connection import Connection, State


class TlsConnection(Connection):
    """One client over TLS."""

    def _start(self) -> None:
        assert self._server.tls is not None
        self._state = State.HANDSHAKE
        self._sock = self._server.tls.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        self._fd = self._sock.fileno()
        self._read(True)

    def _readable(self) -> None:
        if self._state == State.HANDSHAKE:
            self._shake()
            return
        super()._readable()
        sock = self._sock
        assert isinstance(sock, ssl.SSLSocket)
        while self._reading and self._state != State.CLOSED and sock.pending():
            super()._readable()

    def _shake(self) -> None:
        sock = self._sock
        assert isinstance(sock, ssl.SSLSocket)
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self._write(False)
        except ssl.SSLWantWriteError:
            self._write(True)
        except OSError:
            self.close()
        else:
            self._write(False)
            self._state = State.HEAD
            self._readable()

    def _pump(self) -> None:
        if self._state == State.HANDSHAKE:
            self._shake()
        else:
            super()._pump()

    def _read(self, wanted: bool) -> None:
        resumed = wanted and not self._reading and self._state in (State.HEAD, State.BODY)
        super()._read(wanted)
        if resumed and isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self._reading and self._state != State.CLOSED:
            self._readable()
