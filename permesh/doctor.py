"""What is fine on this machine and what is not, in plain words.

Owns the checks of `permesh doctor`. Each looks and changes nothing, and none needs a running
daemon. Must never claim what it cannot see: whether others reach this machine's port is known
only to others.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

import psutil

from .config import Config, Home, load_config
from .errors import PermeshError
from .identity.keys import check_permissions
from .identity.signed import SKEW_MS
from .inference.engine.blas import find_blas
from .store import Store

State = Literal["ok", "warn", "fail"]

# A small model with its parts on the way takes about half of this.
ENOUGH_DISK = 2 * 1024**3
LITTLE_DISK = 200 * 1024**2
# This release was made after it; a clock before it is wrong for certain.
RELEASED_MS = 1_795_000_000_000  # 2026-11-18
CONNECT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: ``detail`` says what was found, ``remedy`` what to do if it is not fine."""

    name: str
    state: State
    detail: str
    remedy: str = ""


def examine(home: Home, now_ms: int | None = None) -> list[Check]:
    """All checks, in the order in which a newcomer would want them mended."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    checks = [_python(), _mlx(), _blas(), _memory(), _disk(home)]
    try:
        config = load_config(home)
        checks.append(Check("settings", "ok", f"{home.config} reads well"))
    except PermeshError as error:
        config = Config()
        checks.append(Check("settings", "fail", error.message, error.remedy))
    checks += [_keys(home), _socket(home), _clock(home, now_ms)]
    checks += [_port(address, daemon_runs(home)) for address in config.network.listen]
    return checks


def daemon_runs(home: Home) -> bool:
    """Whether somebody answers on the home's socket."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(CONNECT_SECONDS)
        probe.connect(str(home.socket))
        return True
    return False


def _python() -> Check:
    where = f"{platform.python_version()} on {platform.platform(terse=True)}"
    if sys.maxsize <= 2**32:
        return Check("python", "fail", f"{where}, 32 bits", "MLX needs a 64-bit Python.")
    return Check("python", "ok", f"Python {where}")


def _mlx() -> Check:
    try:
        version, lm = metadata.version("mlx"), metadata.version("mlx-lm")
    except metadata.PackageNotFoundError as error:
        return Check(
            "mlx",
            "fail",
            f"{error} is not installed",
            "Install permesh again, from its folder: pip install .",
        )
    backends = {
        "mlx-metal": "Metal",
        "mlx-cuda-13": "CUDA 13",
        "mlx-cuda": "CUDA",
        "mlx-cpu": "CPU",
    }
    found = next((label for name, label in backends.items() if _installed(name)), None)
    if found is None:
        return Check(
            "mlx", "fail", f"mlx {version} has no backend",
            f"On Linux: pip install 'mlx[cpu]=={version}', or 'mlx[cuda13]=={version}' for NVIDIA.",
        )  # fmt: skip
    return Check("mlx", "ok", f"mlx {version}, mlx-lm {lm}, backend {found}")


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _blas() -> Check:
    if platform.system() != "Linux" or not _installed("mlx-cpu"):
        return Check("blas", "ok", "not needed: this backend brings its own")
    report = find_blas()
    if report.fast:
        return Check("blas", "ok", f"{report.name} ({report.path})")
    return Check("blas", "warn", "only the slow BLAS that mlx bundles was found", report.remedy)


def _memory() -> Check:
    memory = psutil.virtual_memory()
    detail = f"{memory.available / 1e9:.1f} GB of {memory.total / 1e9:.1f} GB available"
    if memory.available < 1e9:
        return Check("memory", "warn", detail, "Close something before you serve a model.")
    return Check("memory", "ok", detail)


def _disk(home: Home) -> Check:
    place = home.root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    detail = f"{free / 1e9:.1f} GB free at {place}"
    if free < LITTLE_DISK:
        return Check("disk", "fail", detail, "Free some space, or move the home elsewhere.")
    if free < ENOUGH_DISK:
        return Check("disk", "warn", detail, "Room for posts, but hardly for a model.")
    return Check("disk", "ok", detail)


def _keys(home: Home) -> Check:
    if not home.keys.is_dir():
        return Check("keys", "warn", f"no identity at {home.root}", "Run: permesh init --name NAME")
    loose = check_permissions(home)
    if loose:
        return Check("keys", "fail", "; ".join(loose), f"Run: chmod -R go= {home.keys}")
    return Check("keys", "ok", f"{home.keys} is yours alone")


def _socket(home: Home) -> Check:
    try:
        home.check_socket_path()
    except PermeshError as error:
        return Check("socket", "fail", error.message, error.remedy)
    if daemon_runs(home):
        return Check("daemon", "ok", f"answers on {home.socket}")
    return Check("daemon", "warn", "not running", "Start it with: permesh daemon")


def _clock(home: Home, now_ms: int) -> Check:
    """The only clocks at hand are this release's date and what other members have signed."""
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now_ms / 1000))
    if now_ms < RELEASED_MS:
        return Check("clock", "fail", f"{shown} is before this release", "Set the clock.")
    newest = 0
    with contextlib.suppress(PermeshError, OSError):
        if home.database.is_file():
            store = Store(home.database, read_only=True)
            with contextlib.closing(store):
                newest = store.newest_ms()
    behind = newest - now_ms
    if behind > SKEW_MS:
        return Check(
            "clock", "fail",
            f"{shown} is {behind / 60_000:.0f} minutes behind what members have signed",
            "Set the clock; beyond ten minutes, members refuse what you sign.",
        )  # fmt: skip
    return Check("clock", "ok", f"{shown}; nothing that members signed contradicts it")


def _port(address: str, running: bool) -> Check:
    """Whether the port can be listened on, or is answered if the daemon runs."""
    name = f"port {address}"
    parts = address.strip("/").split("/")
    if len(parts) < 4 or parts[0] not in ("ip4", "ip6") or parts[2] != "tcp":
        return Check(name, "warn", "not a plain TCP address: not checked")
    host, port = parts[1], int(parts[3]) if parts[3].isdigit() else -1
    if port == 0:
        return Check(name, "ok", "any free port; others learn it from your invite")
    family = socket.AF_INET6 if parts[0] == "ip6" else socket.AF_INET
    outside = "whether others reach it depends on your router: forward this TCP port to be dialled"
    with socket.socket(family) as probe:
        probe.settimeout(CONNECT_SECONDS)
        try:
            if running:
                local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
                probe.connect((local, port))
                return Check(name, "ok", f"the daemon answers on it; {outside}")
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            if running:
                where = "the daemon does not answer on it, and may listen elsewhere"
                return Check(name, "warn", where, "See its addresses: permesh status")
            return Check(
                name, "fail", f"not free: {error}",
                "Choose another in config.toml under [network] listen, or stop who has it.",
            )  # fmt: skip
    return Check(name, "ok", f"free; {outside}")
