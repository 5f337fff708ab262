"""`daemon`, `status`, `tui`, `doctor`, `demo` and `completion`: this machine's side of it."""

from __future__ import annotations

import dataclasses

import click
from click.shell_completion import get_completion_class

from . import output
from .passphrase import descriptor_option, with_passphrase
from .root import Face, json_option, pass_face, root

_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}
_HINTS = {
    "bash": 'add to ~/.bashrc:  eval "$(permesh completion bash)"',
    "zsh": 'add to ~/.zshrc:  eval "$(permesh completion zsh)"',
    "fish": "run:  permesh completion fish > ~/.config/fish/completions/permesh.fish",
}


@click.command()
@click.option("--listen", multiple=True, metavar="ADDR", help="As /ip4/0.0.0.0/tcp/9470.")
@click.option("--bootstrap", multiple=True, metavar="ADDR", help="A member to reach, with /p2p/ID.")
@click.option("--mdns", is_flag=True, help="Look for members in the local network too.")
@descriptor_option
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
@pass_face
def daemon(
    face: Face,
    listen: tuple[str, ...],
    bootstrap: tuple[str, ...],
    mdns: bool,
    passphrase_fd: int | None,
    log_level: str,
) -> None:
    """Run this member until Ctrl-C."""
    from permesh.daemon import run_daemon

    def start(passphrase: str | None) -> None:
        run_daemon(
            face.home,
            passphrase=passphrase,
            listen=listen,
            bootstrap=bootstrap,
            mdns=mdns,
            log_level=log_level,
        )

    with_passphrase(face.home, passphrase_fd, start)


@click.command()
@json_option
@pass_face
def status(face: Face) -> None:
    """Say how the running daemon is."""
    with face.client() as client:
        now = client.status()
    if face.json:
        output.print_json(now)
    else:
        screen = output.console()
        for part in output.status(now):
            screen.print(part)


@click.command()
@click.option("--web", is_flag=True, help="In this machine's browsers instead, until Ctrl-C.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Where --web listens on 127.0.0.1 (else at a free one).",
)
@click.option(
    "--open",
    "open_browser",
    is_flag=True,
    help="Open --web's page in the browser, whose command line then shows its token.",
)
@pass_face
def tui(face: Face, web: bool, port: int | None, open_browser: bool) -> None:
    """Open the terminal app on the running daemon."""
    if web:
        from permesh.tui.web import serve_web

        serve_web(face.home, port or 0, open_browser=open_browser, say=click.echo)
        return
    if port is not None or open_browser:
        raise click.UsageError("--port and --open go with --web.")
    from permesh.tui import run

    run(face.home.socket)


@click.command()
@json_option
@pass_face
def doctor(face: Face) -> None:
    """Say what is fine on this machine and what is not; exits 1 if something must be mended."""
    from permesh import offline

    checks = offline.doctor(face.home)
    if face.json:
        output.print_json({"checks": [dataclasses.asdict(check) for check in checks]})
    else:
        screen = output.console()
        for check in checks:
            mark, colour = _MARKS[check.state]
            screen.print(mark, f"{check.name}: {check.detail}", style=colour)
            if check.remedy and check.state != "ok":
                screen.print(f"  {check.remedy}")
    if any(check.state == "fail" for check in checks):
        raise click.exceptions.Exit(1)


@click.command()
@click.option("--keep", is_flag=True, help="Leave the three members running until Ctrl-C.")
def demo(keep: bool) -> None:
    """Watch three members found a mesh, talk, and answer with one model."""
    from permesh.demo import run_demo

    run_demo(keep=keep)


@click.command()
@click.argument("shell", type=click.Choice(sorted(_HINTS)))
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    kind = get_completion_class(shell)
    assert kind is not None  # click ships all three
    click.echo(kind(root, {}, "permesh", "_PERMESH_COMPLETE").source())
    click.echo(f"# To use it, {_HINTS[shell]}", err=True)


COMMANDS = (daemon, status, tui, doctor, demo, completion)
