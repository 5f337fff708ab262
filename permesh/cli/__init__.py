"""The `permesh` command: one module for each group of commands, over the local API.

Owns arguments and words. Everything that a running member can do goes through `permesh.client`;
what needs no daemon is imported where it is used.
"""

from __future__ import annotations

from . import (
    attachments,
    forum,
    identity,
    machine,
    models,
    moderation,
    owner,
    papers,
    registrars,
    rooms,
)
from .root import root as main

_GROUPS = (
    identity,
    papers,
    registrars,
    owner,
    rooms,
    forum,
    moderation,
    attachments,
    models,
    machine,
)
for _group in _GROUPS:
    for _command in _group.COMMANDS:
        main.add_command(_command)

__all__ = ["main"]
