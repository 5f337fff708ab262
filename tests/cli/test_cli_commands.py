"""Each command against a daemon in memory: what it prints for people and for programs."""

from __future__ import annotations

import json

import pytest
from click.shell_completion import BashComplete

from permesh.cli import main
from tests.api.fakenode import AGENT, MODEL, ROUTE, WORDS, Daemon

pytestmark = pytest.mark.usefixtures("daemon")


def lines(result) -> list[str]:
    return result.stdout.splitlines()


def parsed(result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_id_card_of_a_running_member(permesh) -> None:
    card = permesh("id").stdout
    for expected in (
        "Chitin ID",
        "AGT-0001",
        "atlas",
        AGENT,
        "orchard",
        "claimed by the member itself",
    ):
        assert expected in card
    assert parsed(permesh("id", "--json"))["number"] == "AGT-0001"


def test_status_in_words_and_in_json(permesh) -> None:
    words = permesh("status").stdout
    assert "orchard (member, 2 members)" in words
    assert "/ip4/127.0.0.1/tcp/9470/p2p/12D3KooW" in words
    status = parsed(permesh("status", "--json"))
    assert {"peer_id", "addresses", "peers"} <= set(status)


@pytest.mark.parametrize("command", [["members"], ["members", "list"]])
def test_members_are_listed(permesh, command: list[str]) -> None:
    assert "coral" in permesh(*command).stdout
    assert [item["name"] for item in parsed(permesh(*command, "--json"))["items"]] == [
        "atlas",
        "coral",
    ]


def test_a_member_is_let_in(permesh) -> None:
    assert "--person" in permesh("members", "admit", "coral").stderr
    who = ("--person", "coral@example.org")
    assert "AGT-0002" in permesh("members", "admit", "coral", *who).stdout
    again = permesh("members", "admit", "coral", *who)
    assert again.exit_code == 1
    assert again.stderr == "permesh: Nobody called 'coral' asks to be let in.\n"


def test_an_invite_is_one_line(permesh) -> None:
    assert lines(permesh("mesh", "invite")) == ["permesh1:AAAA"]
    assert parsed(permesh("mesh", "invite", "--json")) == {"line": "permesh1:AAAA"}


def test_a_room_is_made_and_listed(permesh) -> None:
    assert permesh("room", "create", "lobby", "--purpose", "talk").exit_code == 0
    assert "lobby" in permesh("room", "list").stdout
    assert parsed(permesh("room", "list", "--json"))["items"][0]["purpose"] == "talk"


def test_a_post_goes_in_and_is_read(permesh) -> None:
    permesh("room", "create", "lobby")
    first = parsed(permesh("post", "lobby", "hello", "--json"))
    permesh("post", "lobby", "-", "--reply", first["id"], input="from\na pipe\n")
    shown = permesh("read", "lobby").stdout
    assert shown.index("  hello\n") < shown.index("  from\n  a pipe\n")
    assert f"in reply to {first['id'][:8]}" in shown
    page = parsed(permesh("read", "lobby", "--json"))
    assert [item["text"] for item in page["items"]] == ["hello", "from\na pipe"]


def test_reading_begins_with_the_newest(permesh) -> None:
    permesh("room", "create", "lobby")
    for number in range(4):
        permesh("post", "lobby", f"post {number}")
    shown = [line for line in lines(permesh("read", "lobby", "--limit", "2")) if "post " in line]
    assert shown == ["  post 2", "  post 3"]
    assert permesh("read", "lobby", "--limit", "0").stdout == ""


def test_standard_input_that_is_no_text_is_refused(permesh) -> None:
    permesh("room", "create", "lobby")
    result = permesh("post", "lobby", "-", input=b"\xff\xfe\x00")
    assert result.exit_code == 1
    assert "not UTF-8" in result.stderr


def test_standard_input_without_end_is_too_long(permesh) -> None:
    permesh("room", "create", "lobby")
    result = permesh("post", "lobby", "-", input="é" * 500_000)
    assert result.exit_code == 1
    assert "has more than 131072 bytes" in result.stderr
    assert "32 KiB" in result.stderr


def test_a_text_that_is_too_long_is_counted_whole(permesh) -> None:
    permesh("room", "create", "lobby")
    result = permesh("post", "lobby", "-", input="x" * 70_000)
    assert result.exit_code == 1
    assert "The post has 70000 bytes and the limit is 32768 (32 KiB). Shorten it" in result.stderr


def test_markup_is_only_text(permesh) -> None:
    permesh("room", "create", "lobby", "--purpose", "[bold red]stop[/]")
    permesh("post", "lobby", "[link=x]:boom:[/link]")
    assert "[bold red]stop[/]" in permesh("room", "list").stdout
    assert "[link=x]:boom:[/link]" in permesh("read", "lobby").stdout


def test_a_model_is_served_listed_and_stopped(permesh) -> None:
    assert lines(permesh("model", "serve", MODEL, "--layers", "6:18")) == [
        f"Serving layers 6 to 17 of {MODEL}."
    ]
    assert "AGT-0001 6 to 17" in permesh("model", "list").stdout
    assert permesh("model", "stop", MODEL).exit_code == 0
    assert all(not item["served"] for item in parsed(permesh("model", "list", "--json"))["items"])


def test_an_answer_goes_to_stdout_and_its_figures_to_stderr(permesh) -> None:
    result = permesh("ask", MODEL, "Why do bees matter?", "--explain")
    assert result.stdout == "".join(WORDS) + "\n"
    assert "5 tokens, 20.0 a second, the first after 0.25 s" in result.stderr
    assert "exposed route over 2 members" in result.stderr
    assert "activations" in result.stderr


def test_an_answer_in_json(permesh) -> None:
    answer = parsed(permesh("ask", MODEL, "Why?", "--json"))
    assert answer["text"] == "".join(WORDS)
    assert answer["permesh"] == ROUTE.model_dump()
    assert answer["usage"]["total_tokens"] == 12


def test_every_option_of_ask_reaches_the_node(permesh, daemon: Daemon) -> None:
    sampling = ["--max-tokens", "3", "--temperature", "0.5", "--top-p", "0.9", "--seed", "7"]
    options = [*sampling, "--stop", "END", "--stop", "FIN", "--route", "mesh", "--system", "Brief."]
    permesh("ask", MODEL, "-", *options, input="Why?\n")
    asked = daemon.node.asked[-1]
    assert [(message.role, message.content) for message in asked.messages] == [
        ("system", "Brief."),
        ("user", "Why?"),
    ]
    assert (asked.max_tokens, asked.temperature, asked.top_p, asked.seed) == (3, 0.5, 0.9, 7)
    assert (asked.stop, asked.route) == (("END", "FIN"), "mesh")


def test_an_answer_that_breaks_off_says_so_on_a_line_of_its_own(permesh) -> None:
    result = permesh("ask", MODEL, "break")
    assert result.exit_code == 1
    assert result.stdout == "Bees carry \n"
    assert result.stderr == "permesh: AGT-0002 went away. Ask again.\n"


@pytest.mark.parametrize(
    ("typed", "begun", "offered"),
    [
        ([], "unm", ["unmute"]),
        (["room"], "c", ["charter", "create"]),
        (["room", "charter", "lobby"], "--w", ["--writers"]),
        (["room", "charter", "lobby", "--writers"], "f", ["founders"]),
        (["attachment"], "", ["get"]),
    ],
)
def test_a_shell_completes_commands_and_options(typed, begun: str, offered: list[str]) -> None:
    complete = BashComplete(main, {}, "permesh", "_PERMESH_COMPLETE")
    assert [item.value for item in complete.get_completions(typed, begun)] == offered
