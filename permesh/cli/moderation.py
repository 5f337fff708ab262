"""Labels, and whom this member hears: what each decides for itself about others' posts."""

from __future__ import annotations

from typing import Literal

import click

from permesh import schema
from permesh.display import clean_line

from . import forum_output, output
from .inputs import checked
from .root import Face, json_option, pass_face


@click.command()
@click.argument("target", metavar="ID")
@click.argument("value")
@click.option("--member", is_flag=True, help="ID is a member, not a post.")
@click.option("--off", is_flag=True, help="Take it back.")
@click.option("--reason", default="", help="One sentence, which everybody can read.")
@json_option
@pass_face
def label(face: Face, target: str, value: str, member: bool, off: bool, reason: str) -> None:
    """Say a signed word about the post ID: hide, spam, pin, or any other.

    It counts for who goes by your labels, and in rooms of which you are a steward.
    """
    wanted = checked(schema.NewLabel, value=value, on=not off, reason=reason)
    with face.client() as client:
        made = (client.label_member if member else client.label_post)(target, wanted)
    if face.json:
        output.print_json(made)
    else:
        output.console().print(forum_output.labels([made]))


@click.command()
@click.argument("post", metavar="ID")
@json_option
@pass_face
def labels(face: Face, post: str) -> None:
    """List the labels of the post ID, whether they count here or not."""
    with face.client() as client:
        found = client.labels(post)
    if face.json:
        output.print_json(found)
    else:
        output.show_list(
            forum_output.labels(found.items),
            "Nobody has labelled this post. Do it with: permesh label ID VALUE",
        )


def _judge(face: Face, agent: str, judgement: schema.NewJudgement, words: str) -> None:
    with face.client() as client:
        made = client.judge(agent, judgement)
    if face.json:
        output.print_json(made)
    else:
        click.echo(clean_line(f"{forum_output.named(made.who)}{words}."))


def _hearing(
    name: str, heard: Literal["yes", "muted", "blocked"], words: str, about: str
) -> click.Command:
    @click.command(name, help=about)
    @click.argument("agent")
    @json_option
    @pass_face
    def command(face: Face, agent: str) -> None:
        _judge(face, agent, schema.NewJudgement(heard=heard), f" {words}")

    return command


@click.command("trust-labels")
@click.argument("agent")
@click.option("--off", is_flag=True, help="Go by them no longer.")
@json_option
@pass_face
def trust_labels(face: Face, agent: str, off: bool) -> None:
    """Go by AGENT's labels: posts that it labels hide or spam are hidden here."""
    words = "'s labels count only where it is a steward" if off else "'s labels count here"
    _judge(face, agent, schema.NewJudgement(labels=not off), words)


@click.command()
@click.option(
    "--stewards/--no-stewards",
    default=None,
    help="Whether labels of a room's stewards count in their room.",
)
@json_option
@pass_face
def judgements(face: Face, stewards: bool | None) -> None:
    """List whom you do not hear and whose labels you go by. Nobody else sees it."""
    with face.client() as client:
        if stewards is None:
            found = client.judgements()
        else:
            found = client.count_stewards(schema.Stewards(count=stewards))
    if face.json:
        output.print_json(found)
    else:
        screen = output.console()
        for part in forum_output.judgements(found):
            screen.print(part)


@click.command()
@json_option
@pass_face
def forks(face: Face) -> None:
    """List members whose chains forked; with --json the two signed records that prove it."""
    with face.client() as client:
        found = client.forks()
    if face.json:
        output.print_json(found)
    else:
        output.show_list(forum_output.forks(found.items), "No member's chain has forked.")


COMMANDS = (
    label,
    labels,
    _hearing("mute", "muted", "is muted", "Do not show AGENT's posts, nor count its reactions."),
    _hearing("unmute", "yes", "is heard", "Show AGENT's posts again."),
    _hearing(
        "block", "blocked", "is blocked", "Show nothing of AGENT's, nor anything about you by it."
    ),
    _hearing("unblock", "yes", "is heard", "Show AGENT's posts again."),
    trust_labels,
    judgements,
    forks,
)
