"""Where a member's files are, and the settings that its owner may change.

Owns the home's layout and `config.toml`. Must never open a database, a key or a socket.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import PermeshError

DEFAULT_PORT = 9470
# sun_path is 104 bytes on macOS and 108 on Linux, the closing zero included.
MAX_SOCKET_PATH = 103


@dataclass(frozen=True, slots=True)
class Home:
    """The paths below `$PERMESH_HOME`; none of them need exist."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def database(self) -> Path:
        return self.root / "permesh.db"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def attachments(self) -> Path:
        return self.root / "attachments"

    @property
    def socket(self) -> Path:
        return self.root / "permesh.sock"

    @property
    def lock(self) -> Path:
        return self.root / "daemon.lock"

    @property
    def log(self) -> Path:
        return self.root / "daemon.log"

    def check_socket_path(self) -> None:
        length = len(os.fsencode(self.socket))
        if length > MAX_SOCKET_PATH:
            raise PermeshError(
                "home.path_too_long",
                f"The socket path {self.socket} has {length} bytes, and a Unix socket takes "
                f"{MAX_SOCKET_PATH}.",
                "Set PERMESH_HOME to a shorter directory.",
            )


def find_home(explicit: str | os.PathLike[str] | None = None) -> Home:
    """`--home`, else `$PERMESH_HOME`, else `~/.permesh`."""
    chosen = explicit or os.environ.get("PERMESH_HOME") or Path.home() / ".permesh"
    return Home(Path(chosen).expanduser().absolute())


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    listen: tuple[str, ...] = (f"/ip4/0.0.0.0/tcp/{DEFAULT_PORT}",)
    announce: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    lane_port: int = 0
    mdns: bool = False


@dataclass(frozen=True, slots=True)
class ModelsConfig:
    directory: str = ""  # empty: `models/` below the home
    serve: tuple[str, ...] = ()  # "NAME 6:18": what the daemon serves from its start


@dataclass(frozen=True, slots=True)
class ForumConfig:
    # Of each room that is followed; the room's charter and `room follow` may say less. 0: no limit.
    keep_days: int = 0
    keep_megabytes: int = 512
    attachments_mb: int = 1024  # of posts' files, own ones included; fetched ones go for new ones


@dataclass(frozen=True, slots=True)
class IdentityConfig:
    base_rpc: str = ""  # an https endpoint of Base, from which registrars read souls
    # Of the Chitin registry's proxy, as 0x and 40 digits; empty: whichever was in place.
    chitin_implementations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    name: str = ""
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    models: ModelsConfig = field(default_factory=ModelsConfig)
    forum: ForumConfig = field(default_factory=ForumConfig)

    def models_directory(self, home: Home) -> Path:
        chosen = os.environ.get("PERMESH_MODELS") or self.models.directory
        return Path(chosen).expanduser().absolute() if chosen else home.models


_SECTIONS: dict[str, type[Any]] = {
    "identity": IdentityConfig,
    "network": NetworkConfig,
    "models": ModelsConfig,
    "forum": ForumConfig,
}


def load_config(home: Home) -> Config:
    """Read `config.toml`; defaults where it is silent, a clear refusal where it is wrong."""
    try:
        raw = tomllib.loads(home.config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(home, str(error)) from error
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key == "name":
            values[key] = _checked(home, key, value, "")
        elif key in _SECTIONS and isinstance(value, dict):
            values[key] = _section(home, key, value)
        else:
            raise _wrong(home, f"unknown setting '{key}'")
    return Config(**values)


def _section(home: Home, name: str, table: dict[str, Any]) -> Any:
    kind = _SECTIONS[name]
    defaults = kind()
    values = {}
    for key, value in table.items():
        if key not in kind.__dataclass_fields__:
            raise _wrong(home, f"unknown setting '{name}.{key}'")
        values[key] = _checked(home, f"{name}.{key}", value, getattr(defaults, key))
    return kind(**values)


def _checked(home: Home, key: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise _wrong(home, f"'{key}' must be a list of strings")
    if type(value) is not type(default):
        raise _wrong(home, f"'{key}' must be of type {type(default).__name__}")
    if isinstance(value, int) and value < 0:
        raise _wrong(home, f"'{key}' must not be negative")
    return value


def _wrong(home: Home, why: str) -> PermeshError:
    return PermeshError(
        "config.invalid", f"{home.config} is not valid: {why}.", "Correct that line and try again."
    )


def render_config(config: Config) -> str:
    """The settings as TOML, written by `permesh init`."""
    lines = [f"name = {_toml(config.name)}"]
    for section in _SECTIONS:
        lines += ["", f"[{section}]"]
        part = getattr(config, section)
        lines += [f"{key} = {_toml(getattr(part, key))}" for key in part.__dataclass_fields__]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    escaped = "".join(
        f"\\u{ord(ch):04x}" if ord(ch) < 32 or ord(ch) == 127 else "\\" + ch if ch in '"\\' else ch
        for ch in value
    )
    return f'"{escaped}"'
