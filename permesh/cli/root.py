"""The `permesh` command itself: its options for all commands, and how it fails.

Owns the exit statuses (1 for what a person can mend, 2 for wrong usage, 130 for Ctrl-C) and the
one line that an error is. Must never know what a command does.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from permesh import __version__
from permesh.config import Home, find_home
from permesh.display import clean_line
from permesh.errors import PermeshError

if TYPE_CHECKING:
    from permesh.client import Client

INTERRUPTED = 130  # as a shell counts it: 128 + SIGINT


@dataclass
class Face:
    """What every command is given: the home, and whether to speak JSON."""

    chosen: Path | None = None
    json: bool = False

    @property
    def home(self) -> Home:
        try:
            return find_home(self.chosen)
        except RuntimeError as error:
            raise PermeshError(
                "home.unknown",
                "There is no home directory to keep a member in.",
                "Set PERMESH_HOME, or name one: permesh --home DIR COMMAND",
            ) from error

    def client(self) -> Client:
        from permesh.client import Client  # slow to import, and not every command speaks

        return Client(self.home.socket)


pass_face = click.make_pass_decorator(Face)


def _speak_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Face).json = True


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_speak_json,
        help="Print one JSON object instead of words.",
    )(command)


class Root(click.Group):
    """Runs a command and turns whatever it raises into one line and an exit status."""

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        extra.pop("standalone_mode", None)
        face = Face()
        try:
            status = super().main(
                args, prog_name or "permesh", standalone_mode=False, obj=face, **extra
            )
            sys.stdout.flush()
        except click.ClickException as error:
            # Wrong usage ends before `--json` was looked at.
            if face.json or _asks_for_json(sys.argv[1:] if args is None else args):
                _print_problem("usage", error.format_message(), _help_of(error))
            error.show()
            status = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            status = INTERRUPTED
        except BrokenPipeError:
            status = _forget_stdout()
        except (Exception, BaseExceptionGroup) as error:
            status = _explain(face, error)
        sys.exit(status if isinstance(status, int) else 0)


def _explain(face: Face, error: BaseException) -> int:
    cause = _leaf(error)
    if isinstance(cause, KeyboardInterrupt):
        return INTERRUPTED
    if not isinstance(cause, PermeshError):
        if os.environ.get("PERMESH_DEBUG") == "1":
            traceback.print_exception(error)
        cause = PermeshError(
            "internal",
            f"An unexpected error ({type(cause).__name__}: {clean_line(str(cause))}).",
            f"Set PERMESH_DEBUG=1 for the traceback; the daemon's own log is {face.home.log}.",
        )
    if face.json:
        _print_problem(cause.code, cause.message, cause.remedy)
    click.echo(f"permesh: {clean_line(str(cause))}", err=True)
    return 1


def _asks_for_json(arguments: Sequence[str]) -> bool:
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def _help_of(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"See: {context.command_path if context else 'permesh'} --help"


def _print_problem(code: str, message: str, remedy: str) -> None:
    from .output import print_json

    print_json({"error": {"code": code, "message": message, "remedy": remedy}})


def _leaf(error: BaseException) -> BaseException:
    """The one error in a group of trio's, or the group if it holds several kinds."""
    while isinstance(error, BaseExceptionGroup):
        kinds = {type(inner) for inner in error.exceptions}
        if len(kinds) > 1:
            ours = error.subgroup(PermeshError)
            return error if ours is None else _leaf(ours)
        error = error.exceptions[0]
    return error


def _forget_stdout() -> int:
    """Whoever read our output has left; say nothing, and let the interpreter's last flush fail
    nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return 1


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="permesh")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The member's home (else $PERMESH_HOME, else ~/.permesh).",
)
@click.pass_obj
def root(face: Face, home: Path | None) -> None:
    """A serverless mesh of verified agents: a forum, and a model pooled among members.

    \b
    Begin with:     permesh init --name NAME
                    permesh mesh create NAME      (or: permesh mesh join LINE)
                    permesh daemon
    See it all at once, with three members on this machine:  permesh demo
    """
    face.chosen = home
