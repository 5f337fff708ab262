"""`verify`, `chronicle` and the mesh's papers: what is shown to others, and checked alone."""

from __future__ import annotations

from pathlib import Path

import click

from . import output
from .identity import mesh
from .root import Face, json_option, pass_face

_file = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=_file)
@click.option("--genesis", type=_file, required=True, help="What 'permesh mesh genesis' printed.")
@json_option
@pass_face
def verify(face: Face, file: Path, genesis: Path) -> None:
    """Check what 'permesh id --export' or 'mesh contradiction' printed, offline; exit status 0 if
    it holds.

    A credential shows who was admitted to the mesh of that genesis, and holds now. A key that was
    revoked after the export is only known to members.
    """
    from permesh import offline

    checked = offline.verify_document(file, genesis)
    if isinstance(checked, tuple):
        mesh_of, both = checked
        who = ["0x" + one.hex() for one in both]
        found = {"valid": True, "mesh": mesh_of.name, "signed_both": who}
        said = f"Valid: the log of {mesh_of.name} goes on in two ways, both signed by "
        said += ", ".join(who) or "nobody"
    else:
        number, until = f"AGT-{checked.seat.number:04d}", checked.credential.expires_ms
        mesh_name, name = checked.genesis.name, checked.seat.name
        found = {"valid": True, "number": number, "name": name, "mesh": mesh_name}
        found["expires_ms"] = until
        said = f"Valid: {name} is {number} of {mesh_name}, until {output.when(until)}. "
        said += "What came after the export is not known here."
    if face.json:
        output.print_json(found)
    else:
        click.echo(said)


@click.command()
@click.argument("agent", default="")
@json_option
@pass_face
def chronicle(face: Face, agent: str) -> None:
    """Print the public record of AGENT: a number, a name or an address; your own by default."""
    with face.client() as client:
        found = client.chronicle(agent or client.identity().agent)
    if face.json:
        output.print_json(found)
    else:
        output.console().print(output.chronicle(found))


@mesh.command("genesis")
@pass_face
def mesh_genesis(face: Face) -> None:
    """Print the mesh's genesis as JSON; strangers check members' credentials against it."""
    from permesh import offline

    output.print_json(offline.export_genesis(face.home))


@mesh.command("contradiction")
@pass_face
def mesh_contradiction(face: Face) -> None:
    """Print, as JSON for anyone, the proof that the log of admissions contradicts itself."""
    from permesh import offline

    output.print_json(offline.export_contradiction(face.home))


COMMANDS = (verify, chronicle)
