"""The `permesh` command: one module for each group of commands, over the local API.

Owns arguments and words. Everything that a running member can do goes through `permesh.client`;
what needs no daemon is imported where it is used.
"""

from __future__ import annotations

from . import forum, identity, machine, models, owner, papers, registrars
from .root import root as main

for _group in (identity, papers, registrars, owner, forum, models, machine):
    for _command in _group.COMMANDS:
        main.add_command(_command)

__all__ = ["main"]
