"""One question to a cluster's master."""

from __future__ import annotations

from jindopy.base.clock import Deadline
from jindopy.client.master import RemoteMaster, Report
from jindopy.config.cluster import ControlSettings
from jindopy.modes.service import security


def ask(master: str, control: ControlSettings, name: str, seconds: float) -> Report:
    """The cluster in figures; raises MasterAway, BadCredentials, ConfigError."""
    remote = RemoteMaster(master, security(control), name)
    try:
        remote.start(Deadline.after(seconds))
        return remote.report()
    finally:
        remote.close()
