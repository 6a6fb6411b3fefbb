"""Starting the daemon of a mount: a fresh interpreter that gets its settings by descriptor and answers by pipe.

Settings travel in an anonymous file (memfd), so neither the command line nor the disk shows them and no pipe's capacity
limits them.  While the daemon has not answered, the caller owns it: time over, an interrupt or an error ends it and
takes its mount away.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from jindopy.base import mountinfo
from jindopy.base.clock import Deadline
from jindopy.base.errors import ConfigError, DeadlineExceeded, MountPointError
from jindopy.base.mountinfo import Liveness
from jindopy.config.settings import MountSettings, Readiness
from jindopy.control.protocol import RemoteError
from jindopy.control.server import remove_stale

MODULE = "jindopy.modes.mount"
END_SECONDS = 5.0
_LINE_BYTES_MAX = 1 << 16
_LAST_WORDS_BYTES = 4096


def _settings_file(settings: MountSettings) -> int:
    descriptor = os.memfd_create("jindopy-settings")
    os.write(descriptor, settings.to_json().encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def become_daemon(settings: MountSettings) -> NoReturn:
    """Replace this process; does not return."""
    descriptor = _settings_file(settings)
    os.set_inheritable(descriptor, True)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", MODULE, "--settings-fd", str(descriptor)])  # noqa: S606


def start_daemon(settings: MountSettings, timeout_seconds: float) -> Readiness:
    """Start it and wait until it serves; raises RemoteError, DeadlineExceeded.  On failure nothing is left."""
    descriptor = _settings_file(settings)
    ready_read, ready_write = os.pipe()
    try:
        log = _open_log(settings)
        log_start = os.fstat(log).st_size
        command = [sys.executable, "-P", "-m", MODULE]
        command += ["--settings-fd", str(descriptor), "--ready-fd", str(ready_write)]
        process = subprocess.Popen(  # noqa: S603 - our own module, and paths that were checked
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(descriptor, ready_write),
            start_new_session=True,
            cwd="/",  # a daemon must not keep the caller's directory busy
        )
        os.close(log)
    except BaseException:
        os.close(ready_read)
        raise
    finally:
        os.close(descriptor)
        os.close(ready_write)
    try:
        line = _read_line(ready_read, Deadline.after(timeout_seconds))
        if not line:
            raise RemoteError(f"the mount's process died: {_last_words(settings, log_start)}", 1)
        answer = Readiness.from_line(line)
        if not answer.ready:
            raise RemoteError(answer.error, answer.exit_code)
    except TimeoutError:
        _end(process, settings)
        raise DeadlineExceeded(
            f"{settings.mount_point}: the mount did not answer within {timeout_seconds:g} s and was ended; raise"
            f" --timeout, or see {settings.log_file}"
        ) from None
    except BaseException:
        _end(process, settings)
        raise
    finally:
        os.close(ready_read)
    # From here on it is nobody's child: init collects it.
    process.returncode = 0
    return answer


def _open_log(settings: MountSettings) -> int:
    try:
        return os.open(settings.log_file or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise ConfigError(f"log file {settings.log_file}: {error.strerror}; choose another with --log-file") from None


def _read_line(descriptor: int, deadline: Deadline) -> str:
    """What arrives up to the first newline or the end; raises TimeoutError."""
    received = b""
    while b"\n" not in received and len(received) < _LINE_BYTES_MAX:
        readable, _, _ = select.select([descriptor], [], [], deadline.remaining())
        if not readable:
            raise TimeoutError
        chunk = os.read(descriptor, 65536)
        if not chunk:
            break
        received += chunk
    return received.decode("utf-8", "replace").strip()


def _end(process: subprocess.Popen[bytes], settings: MountSettings) -> None:
    """End a daemon that did not come up, and take away a mount it may have made."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(END_SECONDS)
            break
        except subprocess.TimeoutExpired:
            continue
    _take_away(settings)


def _take_away(settings: MountSettings) -> None:
    """Undo what an ended daemon left at the mount point: its mount is dead, so one that lives is somebody else's."""
    entry = mountinfo.at(settings.mount_point, mountinfo.read())
    if entry is not None and entry.ours and mountinfo.probe(settings.mount_point) is Liveness.DEAD:
        try:
            mountinfo.unmount(settings.mount_point, lazy=True)
        except OSError as error:
            raise MountPointError(
                f"{settings.mount_point}: the mount failed and cannot be taken away ({error.strerror}); run: jindopy"
                f" umount --force {settings.mount_point}"
            ) from None
    remove_stale(Path(settings.control_socket))


def _last_words(settings: MountSettings, start: int) -> str:
    """The last line the daemon wrote, which for a Python traceback is the one that says what happened."""
    try:
        with Path(settings.log_file or os.devnull).open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError as error:
        return f"its log cannot be read ({error.strerror})"
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"{last or 'it wrote nothing'} (log: {settings.log_file or 'none'})"
