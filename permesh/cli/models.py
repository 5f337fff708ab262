"""`model` and `ask`: fetching, serving and asking."""

from __future__ import annotations

from pathlib import Path

import click

from permesh import schema
from permesh.display import clean
from permesh.errors import PermeshError

from . import output
from .inputs import read_stdin
from .root import Face, json_option, pass_face

MAX_ANSWER_TOKENS = 512  # unless --max-tokens says otherwise


@click.group()
def model() -> None:
    """Fetch models, serve their layers, list them."""


@model.command("fetch")
@click.argument("name")
@json_option
@pass_face
def model_fetch(face: Face, name: str) -> None:
    """Fetch NAME: smollm2-135m, or any mlx-lm model by its Hugging Face id."""
    from permesh.config import load_config
    from permesh.inference.fetch import fetch_model

    from .progress import StageBars

    directory: Path = load_config(face.home).models_directory(face.home)
    with StageBars() as bars:
        info = fetch_model(name, directory, bars.update)
    if face.json:
        output.print_json(
            {
                "name": info.name,
                "revision": info.revision,
                "layers": info.layers,
                "bytes": info.bytes,
                "directory": str(directory),
            }
        )
    else:
        click.echo(f"{info.name}: {info.layers} layers, {output.size(info.bytes)}, in {directory}")


@model.command("serve")
@click.argument("name")
@click.option("--layers", default="", metavar="FIRST:END", help="As in 6:18, which ends with 17.")
@json_option
@pass_face
def model_serve(face: Face, name: str, layers: str) -> None:
    """Serve layers of NAME to verified members; all of them without --layers."""
    with face.client() as client, output.console(stderr=True).status("Loading and testing …"):
        span = client.serve(name, layers)
    if face.json:
        output.print_json(span)
    else:
        click.echo(f"Serving layers {output.layers(span.first, span.last)} of {span.model}.")


@model.command("stop")
@click.argument("name")
@pass_face
def model_stop(face: Face, name: str) -> None:
    """Serve NAME no longer."""
    with face.client() as client:
        client.stop_serving(name)
    click.echo(f"{name} is not served any more.")


@model.command("list")
@json_option
@pass_face
def model_list(face: Face) -> None:
    """List the models here and in the mesh."""
    with face.client() as client:
        page = client.models()
        items = page.items
        while page.next_cursor is not None:
            page = client.models(page.next_cursor)
            items += page.items
    if face.json:
        output.print_json(schema.Models(items=items))
    else:
        output.console().print(output.models(items))


@click.command()
@click.argument("model")
@click.argument("prompt")
@click.option("--system", metavar="TEXT", help="Instructions that come before the prompt.")
@click.option("--max-tokens", type=click.IntRange(1), default=MAX_ANSWER_TOKENS, show_default=True)
@click.option(
    "--temperature", type=click.FloatRange(0, 2), help="0, the default, always takes the likeliest."
)
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True))
@click.option("--seed", type=int)
@click.option("--stop", multiple=True, metavar="TEXT", help="End before TEXT; up to four times.")
@click.option(
    "--route",
    type=click.Choice(["auto", "local", "mesh"]),
    default="auto",
    show_default=True,
    help="Who may compute: this member alone, the mesh, or (auto) the mesh where it can and "
    "otherwise this member.",
)
@click.option("--explain", is_flag=True, help="Print who computed what, and what each got to see.")
@json_option
@pass_face
def ask(
    face: Face,
    model: str,
    prompt: str,
    system: str | None,
    max_tokens: int,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    stop: tuple[str, ...],
    route: str,
    explain: bool,
) -> None:
    """Ask MODEL and print its answer as it comes; a PROMPT of - is read from standard input.

    Peers do not receive your text. A peer with the public weights can reconstruct it.
    """
    prompt = read_stdin() if prompt == "-" else prompt
    if not prompt.strip():
        raise PermeshError("prompt.empty", "The prompt has no text.", "Write a question.")
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    answer = _Answer()
    with face.client() as client:
        deltas = client.chat(
            model,
            messages,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            stop=stop,
            route=route,  # type: ignore[arg-type]
        )
        try:
            for delta in deltas:
                answer.add(delta)
                if not face.json:
                    click.echo(clean(delta.text), nl=False)
        finally:
            if answer.text and not face.json:
                click.echo()  # so that a complaint stands on a line of its own
    if face.json:
        output.print_json(answer.as_object())
    else:
        answer.print_stats(explain)


class _Answer:
    """An answer as it has come so far."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.finish_reason: str | None = None
        self.usage: schema.Usage | None = None
        self.route: schema.Route | None = None

    def add(self, delta: schema.Delta) -> None:
        self.text.append(delta.text)
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.usage = delta.usage or self.usage
        self.route = delta.route or self.route

    def as_object(self) -> dict[str, object]:
        return {
            "text": "".join(self.text),
            "finish_reason": self.finish_reason,
            "usage": self.usage.model_dump() if self.usage else None,
            "permesh": self.route.model_dump(mode="json") if self.route else None,
        }

    def print_stats(self, explain: bool) -> None:
        screen = output.console(stderr=True)
        if self.route is None:
            return
        tokens = self.usage.completion_tokens if self.usage else len(self.route.token_ids)
        members = {stage.number or stage.name for stage in self.route.stages}
        screen.print(
            f"{output.count(tokens, 'token')}, {self.route.tokens_per_second:.1f} a second, the "
            f"first after {self.route.ttft_seconds:.2f} s; {self.route.route} route over "
            f"{output.count(len(members), 'member')}",
            style="dim",
        )
        if explain:
            screen.print(output.route(self.route))


COMMANDS = (model, ask)
