"""`owner`: what the owner's wallet alone can do about an agent, from any machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from permesh.display import clean_line
from permesh.errors import PermeshError

from . import output
from .inputs import confirm
from .passphrase import descriptor_option, read_passphrase, with_known, with_passphrase
from .root import Face, json_option, pass_face

if TYPE_CHECKING:
    from permesh.identity.genesis import Genesis
    from permesh.identity.owner import OwnerStatement
    from permesh.identity.wallet import Wallet

_agent = click.option(
    "--agent", metavar="0x…", help="The agent's address; by default the agent of this home."
)
_invite = click.option(
    "--invite",
    metavar="LINE",
    help="Tell a member at the invite's addresses; by default this home's own daemon is told.",
)
_wallet = click.option(
    "--wallet",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The owner's keystore; by default keys/owner.json of this home.",
)


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (pass_face, json_option, descriptor_option, _wallet, _invite, _agent):
        command = option(command)
    return command


@click.group()
def owner() -> None:
    """Revoke an agent's key, move the ID to another key, or repair a forked chain."""


@owner.command("revoke")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_options
def revoke(
    face: Face,
    yes: bool,
    agent: str | None,
    invite: str | None,
    wallet: Path | None,
    passphrase_fd: int | None,
) -> None:
    """Declare the agent's key stolen or lost: no member serves it from then on.

    Needs the owner's wallet and nothing of the agent's: run it on any machine with a copy of the
    keystore and an invite of the mesh.
    """
    from permesh import ownership

    key = with_passphrase(
        face.home, passphrase_fd, partial(ownership.owner_wallet, face.home, wallet)
    )

    def meant(genesis: Genesis, owner: Wallet, subject: bytes) -> OwnerStatement:
        confirm(
            f"No member serves the key 0x{subject.hex()} from then on, and nothing takes that "
            "back: the ID lives on under a new key only. Revoke it?",
            yes=yes,
        )
        return ownership.revocation(genesis, owner, subject)

    _say(face, agent, invite, key, meant)


@owner.command("move")
@_options
def move(
    face: Face,
    agent: str | None,
    invite: str | None,
    wallet: Path | None,
    passphrase_fd: int | None,
) -> None:
    """Move the ID of --agent to the key of this home: same number, same standing.

    Make the new home with: permesh init --name NAME --owner-wallet FILE
    """
    from permesh import offline, ownership

    if agent is None or invite is None:
        raise PermeshError(
            "owner.which",
            "A move names the key that is left and the mesh.",
            "permesh owner move --agent 0xOLD --invite LINE, in the new home",
        )
    secret = None if passphrase_fd is None else read_passphrase(passphrase_fd)
    new_agent = with_known(face.home, secret, partial(offline.agent_wallet, face.home))
    key = with_known(face.home, secret, partial(ownership.owner_wallet, face.home, wallet))
    offline.check_move(face.home, key)
    _say(
        face, agent, invite, key,
        lambda genesis, owner, old: ownership.removal(genesis, owner, old, new_agent),
    )  # fmt: skip
    offline.move_in(face.home, invite, key, new_agent)
    click.echo("Next: permesh daemon, here; it is let in once the log holds the move.", err=True)


@owner.command("repair")
@click.argument("seq", type=click.IntRange(0))
@click.argument("record")
@_options
def repair(
    face: Face,
    seq: int,
    record: str,
    agent: str | None,
    invite: str | None,
    wallet: Path | None,
    passphrase_fd: int | None,
) -> None:
    """Say which RECORD (64 hex digits) stands at SEQ of the agent's chain, where two do.

    'permesh chronicle' lists both.
    """
    from permesh import ownership

    chosen = _hex(record, 32, "a record id")
    key = with_passphrase(
        face.home, passphrase_fd, partial(ownership.owner_wallet, face.home, wallet)
    )
    _say(
        face, agent, invite, key,
        lambda genesis, owner, it: ownership.repair(genesis, owner, it, seq, chosen),
    )  # fmt: skip


def _say(
    face: Face,
    agent: str | None,
    line: str | None,
    key: Wallet,
    make: Callable[[Genesis, Wallet, bytes], OwnerStatement],
) -> None:
    from permesh import offline, ownership

    invite = ownership.read_invite(line)
    address = agent if agent is not None else offline.identity_card(face.home).agent
    subject = _hex(address, 20, "an agent's address")
    genesis = ownership.mesh_of(face.home, invite)
    statement = make(genesis, key, subject)
    if invite is not None:
        with output.console(stderr=True).status("Looking for a member …"):
            name = ownership.bring(invite, statement)
    else:
        with face.client() as client:
            name = client.tell_owner(statement.encode().hex()).name
    if face.json:
        output.print_json({"act": statement.act, "agent": "0x" + subject.hex(), "told": name})
    else:
        click.echo(f"{clean_line(name)} tells {genesis.name}: {statement.act} 0x{subject.hex()}")


def _hex(text: str, length: int, what: str) -> bytes:
    try:
        data = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        data = b""
    if len(data) != length:
        raise PermeshError(
            "owner.argument",
            f"'{text[:80]}' is not {what}.",
            f"Write it with {2 * length} hexadecimal digits.",
        )
    return data


COMMANDS = (owner,)
