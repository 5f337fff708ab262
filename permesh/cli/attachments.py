"""`attachment`: files that posts name."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from permesh import schema
from permesh.display import clean_line
from permesh.errors import NotFound, PermeshError
from permesh.file_names import open_beside, open_new, safe_name

from . import output
from .root import Face, json_option, pass_face

if TYPE_CHECKING:
    from permesh.client import Client


@click.group()
def attachment() -> None:
    """Fetch files that posts name."""


@attachment.command("get")
@click.argument("file_hash", metavar="HASH")
@click.option("--of", "post", metavar="ID", help="The post that names it, for the file's name.")
@click.option(
    "--output",
    "-o",
    "path",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Where to put it, unless something is there; - is standard output.",
)
@json_option
@pass_face
def attachment_get(face: Face, file_hash: str, post: str | None, path: Path | None) -> None:
    """Fetch a file from this member or from others, and keep it in this directory.

    HASH is what a post names it by, or a unique beginning of that.
    """
    from .progress import StageBars

    with face.client() as client:
        named = (
            _named(client, file_hash) if post is None else _file(client.read_post(post), file_hash)
        )
        file_hash = named.hash if named else file_hash
        name = safe_name(named.name if named else file_hash, file_hash)
        with client.open_file(file_hash) as chunks, _target(path, name) as (file, place):
            done = 0
            with StageBars(quiet=not sys.stderr.isatty()) as bars:
                for data in chunks:
                    file.write(data)
                    done += len(data)
                    bars.update(name, done, named.bytes if named else 0)
    if face.json:
        output.print_json({"hash": file_hash, "bytes": done, "file": place})
    elif place != "-":
        click.echo(f"{clean_line(place)}: {output.size(done)}")


def _named(client: Client, file_hash: str) -> schema.Attachment | None:
    """As a post here names it; a hash in full is fetched though no post does."""
    try:
        return client.file(file_hash)
    except PermeshError as error:
        if error.code == "attachment.unknown" and re.fullmatch("[0-9a-f]{64}", file_hash):
            return None
        raise


def _file(post: schema.Post, file_hash: str) -> schema.Attachment:
    found = [file for file in post.attachments if file.hash.startswith(file_hash)]
    if len({file.hash for file in found}) == 1:
        return found[0]
    if found:
        raise PermeshError(
            "attachment.ambiguous",
            f"'{file_hash}' fits several files of that post.",
            "Give more digits of the hash.",
        )
    raise NotFound(
        "attachment.unknown",
        "That post names no such file.",
        "See its files with: permesh thread ID",
    )


@contextmanager
def _target(path: Path | None, name: str) -> Iterator[tuple[BinaryIO, str]]:
    """Where the file goes; nothing is left of one that broke off, and nothing is overwritten."""
    if path is not None and str(path) == "-":
        yield sys.stdout.buffer, "-"
        return
    try:
        if path is None:
            descriptor, path = open_beside(Path(), name)
        else:
            descriptor = open_new(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file, str(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except FileExistsError as error:
        raise PermeshError(
            "file.exists",
            f"There is something at '{path}' already.",
            "Choose another name with -o, or move it away.",
        ) from error
    except OSError as error:
        raise PermeshError(
            "file.unwritable",
            f"'{path or name}' cannot be written: {error.strerror or error}.",
            "Choose another place with -o.",
        ) from error


COMMANDS = (attachment,)
