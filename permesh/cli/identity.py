"""`init`, `id`, `mesh` and `members`: who one is, and who else is in.

Owns the words of these commands and the asking for a passphrase.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from permesh.errors import PermeshError

from . import output
from .passphrase import (
    descriptor_option,
    forget_in_keyring,
    keep_in_keyring,
    read_passphrase,
    with_passphrase,
)
from .root import Face, json_option, pass_face

_NEXT = "Next: permesh mesh create NAME --person WHO, or permesh mesh join LINE --person WHO"
_NEXT_OF_AN_OWNER = (
    "Next, to bring this owner's ID here: permesh owner move --agent 0xOLD --invite LINE. For "
    "another mesh: permesh mesh create NAME --person WHO, or permesh mesh join LINE --person WHO"
)


@click.command()
@click.option("--name", required=True, help="1 to 32 of a-z, 0-9 and '-'.")
@click.option("--passphrase", "ask", is_flag=True, help="Ask for a passphrase for the wallets.")
@click.option(
    "--owner-wallet",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Keep this owner instead of making one: to move an ID to a new key.",
)
@descriptor_option
@pass_face
def init(
    face: Face, name: str, ask: bool, owner_wallet: Path | None, passphrase_fd: int | None
) -> None:
    """Make this member's identity: an owner wallet, an agent wallet, a peer key.

    Without a passphrase the wallets are plain files that only you may read.
    """
    from permesh import offline

    chosen = None
    if passphrase_fd is not None:
        chosen = read_passphrase(passphrase_fd)
    elif ask:
        chosen = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    offline.create_identity(face.home, name, chosen, owner_wallet)
    card = offline.identity_card(face.home)
    output.console().print(output.card(card))
    click.echo(f"It is kept in {face.home.root}. {_NEXT_OF_AN_OWNER if owner_wallet else _NEXT}")


person_option = click.option(
    "--person",
    metavar="WHO",
    help="What the registrars know you by, such as a mail address; only its hash is kept.",
)


def _person(given: str | None) -> str:
    """Asked for when a person is there to answer."""
    if given is None and sys.stdin.isatty():
        given = click.prompt("What the registrars know you by, such as a mail address", err=True)
    if not given:
        raise PermeshError(
            "person.needed",
            "One human has one agent, so the human has to be named.",
            "Say what the registrars know you by: --person ann@example.org",
        )
    return given


@click.command("id")
@click.option("--founder", is_flag=True, help="Print the line by which a new mesh names you.")
@click.option("--export", is_flag=True, help="Print your credential as JSON that strangers check.")
@person_option
@json_option
@pass_face
def identity(face: Face, founder: bool, export: bool, person: str | None) -> None:
    """Print this member's Chitin ID card."""
    if export:
        from permesh import offline

        output.print_json(offline.export_credential(face.home))
        return
    if founder:
        from permesh import offline

        click.echo(offline.founder_line(face.home, _person(person)))
        return
    try:
        with face.client() as client:
            card = client.identity()
    except PermeshError as error:
        if error.code != "daemon.absent":
            raise
        from permesh import offline

        card = offline.identity_card(face.home)
    if face.json:
        output.print_json(card)
    else:
        output.console().print(output.card(card))


@click.group()
def passphrase() -> None:
    """Keep the wallets' passphrase in the system's keyring, so that the daemon starts by itself."""


@passphrase.command("keep")
@descriptor_option
@pass_face
def passphrase_keep(face: Face, passphrase_fd: int | None) -> None:
    """Put the passphrase into the keyring, if it opens this home's wallets."""
    from permesh import offline

    if passphrase_fd is not None:
        given = read_passphrase(passphrase_fd)
    else:
        given = click.prompt("Passphrase", hide_input=True, err=True)
    offline.check_passphrase(face.home, given)
    keep_in_keyring(face.home, given)
    click.echo(f"The keyring holds the passphrase of {face.home.root}.")


@passphrase.command("forget")
@pass_face
def passphrase_forget(face: Face) -> None:
    """Take the passphrase out of the keyring."""
    found = forget_in_keyring(face.home)
    click.echo("It is forgotten." if found else "The keyring held none for this home.")


@click.group()
def mesh() -> None:
    """Found a mesh, invite to it, or ask to be let into one."""


@mesh.command("create")
@click.argument("name")
@person_option
@click.option(
    "--founder",
    "founders",
    multiple=True,
    metavar="LINE",
    help="Another registrar, by what 'permesh id --founder' prints; may be repeated.",
)
@click.option(
    "--threshold",
    type=click.IntRange(1),
    metavar="K",
    help="How many registrars it takes to decide; more than half of them by default.",
)
@descriptor_option
@pass_face
def mesh_create(
    face: Face,
    name: str,
    person: str | None,
    founders: tuple[str, ...],
    threshold: int | None,
    passphrase_fd: int | None,
) -> None:
    """Found a mesh; you are its first registrar."""
    from permesh import offline

    make = partial(offline.create_mesh, face.home, name, _person(person), founders, threshold)
    genesis = with_passphrase(face.home, passphrase_fd, make)
    count = len(genesis.registrars)
    if count > 1:
        click.echo(f"{genesis.threshold} of its {count} registrars decide who is let in.")
        if genesis.threshold == count:
            click.echo("If one of them is lost, nobody decides any more: found it with more.")
    click.echo(f"You founded {name}. Next: permesh daemon, then permesh mesh invite")
    if count > 1:
        click.echo(
            "The other founders then run, each with what they gave to 'permesh id --founder': "
            "permesh mesh join LINE --person WHO, then permesh daemon. They are in by that."
        )


@mesh.command("invite")
@json_option
@pass_face
def mesh_invite(face: Face) -> None:
    """Print the line by which others ask to be let in."""
    with face.client() as client:
        invite = client.invite()
    if face.json:
        output.print_json(invite)
    else:
        click.echo(invite.line)


@mesh.command("join")
@click.argument("line")
@person_option
@click.option(
    "--soul",
    metavar="NAME",
    help="Instead of --person: a Chitin soul that your owner's wallet holds on Base.",
)
@descriptor_option
@pass_face
def mesh_join(
    face: Face, line: str, person: str | None, soul: str | None, passphrase_fd: int | None
) -> None:
    """Ask to be let into the mesh of an invite."""
    from permesh import offline

    if soul is not None:
        who = offline.soul_of(face.home, soul)
    else:
        who = offline.known_as(_person(person))
    join = partial(offline.join_mesh, face.home, line, who)
    if with_passphrase(face.home, passphrase_fd, join):
        click.echo("You are one of its founders, and so in already. Next: permesh daemon")
        return
    admit = f"permesh members admit {offline.identity_card(face.home).name}"
    met = " --person WHO" if soul is None else ""  # of a soul no registrar says whom it has met
    click.echo(f"Next: permesh daemon. A registrar lets you in with: {admit}{met}")


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def members(context: click.Context) -> None:
    """List the members and who asks to be let in; let in."""
    if context.invoked_subcommand is None:
        context.invoke(members_list)


@members.command("list")
@json_option
@pass_face
def members_list(face: Face) -> None:
    """List the members and who asks to be let in."""
    from permesh import schema

    with face.client() as client:
        page = client.members()
        items = page.items
        while page.next_cursor is not None:
            page = client.members(page.next_cursor)
            items += page.items
    if face.json:
        output.print_json(schema.Members(items=items))
    else:
        output.console().print(output.members(items))


@members.command("admit")
@click.argument("agent")
@click.option(
    "--person",
    metavar="WHO",
    help="Whom you have met: what the person behind AGENT is known by, as they gave it.",
)
@json_option
@pass_face
def members_admit(face: Face, agent: str, person: str | None) -> None:
    """Approve that AGENT is let in: a name, an address, or a unique beginning of one."""
    with face.client() as client:
        try:
            member = client.admit(agent, person)
        except PermeshError as error:
            if error.code != "person.needed" or not sys.stdin.isatty():
                raise
            asked = f"Whom have you met as the human behind {agent}"
            member = client.admit(agent, click.prompt(asked, err=True))
    if face.json:
        output.print_json(member)
        return
    output.console().print(output.members([member]))
    if member.state == "pending":
        click.echo(
            f"You approved {member.name}: {member.approvals} of the {member.needed} approvals "
            "that it takes are there."
        )


COMMANDS = (init, identity, passphrase, mesh, members)
