"""`registrars`, `releases`, `proposals` and `approve`: what registrars decide together."""

from __future__ import annotations

import re
from typing import Any

import click
from pydantic import ValidationError

from permesh import __version__, schema
from permesh.display import clean_line
from permesh.errors import PermeshError

from . import output
from .identity import members, mesh
from .root import Face, json_option, pass_face


def _wish(**fields: Any) -> schema.NewProposal:
    """Raises ``PermeshError`` for what is longer than a proposal can hold."""
    try:
        return schema.NewProposal(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise PermeshError(
            "proposal.argument",
            f"The {first['loc'][0]} is not valid: {first['msg']}.",
            "Name members by number or name; a reason has at most 200 characters.",
        ) from error


def _propose(face: Face, wanted: schema.NewProposal) -> None:
    with face.client() as client:
        _print(face, client.propose(wanted))


def _print(face: Face, proposal: schema.Proposal) -> None:
    if face.json:
        output.print_json(proposal)
        return
    if proposal.decided:
        click.echo(f"Decided: {clean_line(proposal.about)}.")
    elif len(proposal.approvals) >= proposal.needed:
        click.echo(
            f"Approved by {len(proposal.approvals)}: {clean_line(proposal.about)}. It holds once "
            "the log's witnesses have cosigned."
        )
    else:
        click.echo(
            f"{len(proposal.approvals)} of {proposal.needed} approvals: "
            f"{clean_line(proposal.about)}. The others join in with: "
            f"permesh approve {proposal.id[: output.SHORT_ID]}"
        )


@click.group()
def registrars() -> None:
    """Add, replace or remove a registrar; the others decide."""


@registrars.command("add")
@click.argument("member")
@json_option
@pass_face
def registrars_add(face: Face, member: str) -> None:
    """Approve that MEMBER becomes a registrar."""
    _propose(face, _wish(kind="registrars", added=member))


@registrars.command("remove")
@click.argument("member")
@json_option
@pass_face
def registrars_remove(face: Face, member: str) -> None:
    """Approve that MEMBER ceases to be a registrar."""
    _propose(face, _wish(kind="registrars", removed=member))


@registrars.command("replace")
@click.argument("old")
@click.argument("new")
@json_option
@pass_face
def registrars_replace(face: Face, old: str, new: str) -> None:
    """Approve that NEW takes the place of OLD."""
    _propose(face, _wish(kind="registrars", removed=old, added=new))


@members.command("suspend")
@click.argument("member")
@click.option("--reason", default="", help="Why, in one line; everybody can read it.")
@json_option
@pass_face
def members_suspend(face: Face, member: str, reason: str) -> None:
    """Approve that MEMBER is not served until it is reinstated."""
    _propose(face, _wish(kind="suspension", agent=member, reason=reason))


@members.command("reinstate")
@click.argument("member")
@click.option("--reason", default="", help="Why, in one line; everybody can read it.")
@json_option
@pass_face
def members_reinstate(face: Face, member: str, reason: str) -> None:
    """Approve that MEMBER is served again."""
    _propose(face, _wish(kind="reinstatement", agent=member, reason=reason))


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def releases(context: click.Context) -> None:
    """List the releases of permesh that the mesh accepts; accept or withdraw one."""
    if context.invoked_subcommand is None:
        context.invoke(releases_list)


@releases.command("list")
@json_option
@pass_face
def releases_list(face: Face) -> None:
    """List the releases that the mesh accepts, and those withdrawn."""
    with face.client() as client:
        found = client.releases()
    if face.json:
        output.print_json(found)
    else:
        output.show_list(
            output.releases(found.items),
            "The mesh has named no release yet. A registrar does: permesh releases accept",
        )


@releases.command("accept")
@click.argument("version", default="")
@click.argument("runtime_hash", default="")
@json_option
@pass_face
def releases_accept(face: Face, version: str, runtime_hash: str) -> None:
    """Approve that the mesh accepts VERSION, whose files have RUNTIME_HASH: by default this one."""
    _propose(face, _release(face, version, runtime_hash, accepted=True))


@releases.command("withdraw")
@click.argument("version", default="")
@click.argument("runtime_hash", default="")
@json_option
@pass_face
def releases_withdraw(face: Face, version: str, runtime_hash: str) -> None:
    """Approve that the mesh no longer accepts VERSION: by default this one."""
    _propose(face, _release(face, version, runtime_hash, accepted=False))


def _release(face: Face, version: str, runtime_hash: str, *, accepted: bool) -> schema.NewProposal:
    """Of this very installation where the arguments do not say."""
    if not runtime_hash:
        with face.client() as client:
            own = client.identity()
        version, runtime_hash = version or __version__, own.runtime_hash
    if not re.fullmatch("[0-9a-fA-F]{64}", runtime_hash) or not 0 < len(version) <= 32:
        raise PermeshError(
            "release.argument",
            "A release is a version of 1 to 32 characters and a hash of 64 hex digits.",
            "permesh id shows those of this installation; without arguments they are taken.",
        )
    return _wish(
        kind="release", version=version, runtime_hash=runtime_hash.lower(), accepted=accepted
    )


@mesh.command("resolve")
@click.argument("root", default="")
@json_option
@pass_face
def mesh_resolve(face: Face, root: str) -> None:
    """Approve that a log that contradicts itself goes on with ROOT."""
    _propose(face, _wish(kind="resolution", root=root))


@click.command()
@json_option
@pass_face
def proposals(face: Face) -> None:
    """List what waits for registrars' approvals; who asks to be let in is in `members`."""
    with face.client() as client:
        found = client.proposals()
    if face.json:
        output.print_json(found)
    else:
        output.show_list(
            output.proposals(found.items),
            "No proposal waits for approvals. Who asks to be let in: permesh members",
        )


@click.command()
@click.argument("proposal")
@json_option
@pass_face
def approve(face: Face, proposal: str) -> None:
    """Approve PROPOSAL: its id, or a unique beginning of it."""
    with face.client() as client:
        _print(face, client.approve(proposal))


COMMANDS = (registrars, releases, proposals, approve)
