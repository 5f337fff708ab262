"""What registrars decide, and what is told of a member: commands against a daemon in memory."""

from __future__ import annotations

import json

import pytest
from click.testing import Result

from permesh import __version__, schema
from tests.api.fakenode import AGENT, NOW, Daemon

pytestmark = pytest.mark.usefixtures("daemon")

HOSTILE = "\x1b[2J\x1b]0;pwned\x07\u202eevil\nAGT-0001 forged"
HASH = "ab" * 32
OWN_HASH = "01" * 32  # of the daemon in memory


def parsed(result: Result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def said(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def lines(result: Result) -> list[str]:
    return [line.strip() for line in said(result).splitlines()]


def failed(result: Result) -> str:
    """The one line on stderr."""
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.output
    return result.stderr


def wanted(daemon: Daemon) -> schema.NewProposal:
    """The only one."""
    [one] = daemon.node.wanted.values()
    return one


def beginning(daemon: Daemon) -> str:
    """Of the only proposal's id, as it is shown."""
    [one] = daemon.node.wanted
    return one[:8]


# -- proposing -------------------------------------------------------------------------------------

COMMANDS = [
    (
        ["registrars", "add", "atlas"],
        schema.NewProposal(kind="registrars", added="atlas"),
    ),
    (
        ["registrars", "remove", "AGT-0001"],
        schema.NewProposal(kind="registrars", removed="AGT-0001"),
    ),
    (
        ["registrars", "replace", "atlas", "coral"],
        schema.NewProposal(kind="registrars", removed="atlas", added="coral"),
    ),
    (
        ["members", "suspend", "atlas", "--reason", "As agreed, é."],
        schema.NewProposal(kind="suspension", agent="atlas", reason="As agreed, é."),
    ),
    (
        ["members", "suspend", AGENT],
        schema.NewProposal(kind="suspension", agent=AGENT),
    ),
    (
        ["members", "reinstate", "atlas", "--reason", "It is back."],
        schema.NewProposal(kind="reinstatement", agent="atlas", reason="It is back."),
    ),
    (
        ["releases", "accept", "0.2.0", HASH],
        schema.NewProposal(kind="release", version="0.2.0", runtime_hash=HASH),
    ),
    (
        ["releases", "accept", "0.2.0", HASH.upper()],
        schema.NewProposal(kind="release", version="0.2.0", runtime_hash=HASH),
    ),
    (
        ["releases", "accept", "0.2.0"],
        schema.NewProposal(kind="release", version="0.2.0", runtime_hash=OWN_HASH),
    ),
    (
        ["releases", "accept"],
        schema.NewProposal(kind="release", version=__version__, runtime_hash=OWN_HASH),
    ),
    (
        ["releases", "withdraw", "0.2.0", HASH],
        schema.NewProposal(kind="release", version="0.2.0", runtime_hash=HASH, accepted=False),
    ),
    (
        ["releases", "withdraw"],
        schema.NewProposal(
            kind="release", version=__version__, runtime_hash=OWN_HASH, accepted=False
        ),
    ),
    (
        ["mesh", "resolve", "77aa"],
        schema.NewProposal(kind="resolution", root="77aa"),
    ),
]
EACH = pytest.mark.parametrize(
    ("command", "expected"), COMMANDS, ids=[" ".join(one)[:40] for one, _ in COMMANDS]
)


@pytest.fixture
def ready(permesh, daemon: Daemon) -> Daemon:
    """Coral is a member, and the log contradicts itself."""
    said(permesh("members", "admit", "coral", "--person", "coral@example.org"))
    daemon.node.ways_on = ["77aa" * 16, "88bb" * 16]
    return daemon


@EACH
def test_each_command_proposes_what_it_says(permesh, ready: Daemon, command, expected) -> None:
    words = said(permesh(*command))
    assert wanted(ready) == expected
    assert words.startswith("1 of 2 approvals: ")
    assert words.endswith(f"The others join in with: permesh approve {beginning(ready)}\n")
    assert len(words.splitlines()) == 1


@EACH
def test_each_command_speaks_json(permesh, ready: Daemon, command, expected) -> None:
    shown = schema.Proposal.model_validate(parsed(permesh(*command, "--json")))
    assert (shown.kind, shown.approvals, shown.needed) == (expected.kind, ["AGT-0001"], 2)
    assert (shown.decided, shown.id) == (False, next(iter(ready.node.wanted)))


def test_what_one_decides_alone_is_decided(permesh, daemon: Daemon) -> None:
    daemon.node.needed = 1
    words = said(permesh("members", "suspend", "atlas", "--reason", "Away"))
    assert words == "Decided: atlas, suspension: Away.\n"


def test_what_waits_for_the_witnesses_is_said_to(permesh, daemon: Daemon) -> None:
    daemon.node.needed, daemon.node.cosigned = 1, False
    words = said(permesh("registrars", "remove", "atlas"))
    assert words == (
        "Approved by 1: nobody takes the place of atlas. It holds once the log's witnesses have "
        "cosigned.\n"
    )


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["registrars", "add", "nobody"], "There is no member 'nobody'. See who is one: "),
        (["registrars", "replace", "atlas", "coral"], "There is no member 'coral'."),
        (["members", "suspend", "nobody"], "There is no member 'nobody'."),
        (["members", "reinstate", "nobody"], "There is no member 'nobody'."),
        (["mesh", "resolve"], "choose one by its root"),
        (["mesh", "resolve", "ff"], "choose one by its root"),
        (["approve", "ff"], "No proposal begins with 'ff'. See what waits: permesh proposals"),
        (["approve", "x/../y"], "'x/../y' is not the name or id of anything."),
        (["chronicle", "nobody"], "There is no member 'nobody'."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_daemon_refuses_is_one_line(permesh, daemon: Daemon, command, line) -> None:
    daemon.node.ways_on = ["77aa" * 16, "88bb" * 16]
    assert line in failed(permesh(*command))
    problem = json.loads(permesh(*command, "--json").stdout)["error"]
    assert problem["code"]
    assert problem["remedy"]


def test_a_log_that_goes_on_in_two_ways_names_both(permesh, daemon: Daemon) -> None:
    daemon.node.ways_on = ["77aa" * 16, "88bb" * 16]
    line = failed(permesh("mesh", "resolve"))
    for root in daemon.node.ways_on:
        assert f"permesh mesh resolve {root[:16]}" in line
        assert permesh("mesh", "resolve", root[:16]).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [["0.2.0", "ab" * 31], ["0.2.0", "xy" * 32], ["0.2.0", "ab" * 32 + "\n"], ["x" * 33]],
    ids=lambda one: repr(one[-1][-4:]),
)
@pytest.mark.parametrize("verb", ["accept", "withdraw"])
def test_a_release_is_a_version_and_a_hash(permesh, daemon: Daemon, verb, arguments) -> None:
    line = failed(permesh("releases", verb, *arguments))
    assert "1 to 32 characters and a hash of 64 hex digits" in line
    assert "permesh id" in line
    assert daemon.node.wanted == {}


@pytest.mark.parametrize(
    "command",
    [
        ["registrars"],
        ["registrars", "add"],
        ["registrars", "replace", "atlas"],
        ["registrars", "promote", "atlas"],
        ["members", "suspend"],
        ["members", "suspend", "atlas", "coral"],
        ["releases", "accept", "0.2.0", HASH, "more"],
        ["approve"],
        ["mesh", "resolve", "77", "88"],
        ["chronicle", "atlas", "coral"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(permesh, daemon: Daemon, command: list[str]) -> None:
    assert permesh(*command).exit_code == 2
    assert daemon.node.wanted == {}


TOO_LONG = [
    ["members", "suspend", "atlas", "--reason", "x" * 201],
    ["members", "reinstate", "atlas", "--reason", "x" * 201],
    ["members", "suspend", "x" * 65],
    ["registrars", "add", "x" * 65],
    ["registrars", "replace", "atlas", "x" * 65],
    ["mesh", "resolve", "7" * 65],
]


@pytest.mark.parametrize("command", TOO_LONG, ids=lambda one: " ".join(one)[:24])
def test_what_is_too_long_is_refused_in_words_for_people(permesh, command) -> None:
    line = failed(permesh(*command))
    assert "unexpected" not in line
    assert "pydantic" not in line


@pytest.mark.parametrize("command", TOO_LONG, ids=lambda one: " ".join(one)[:24])
def test_what_is_too_long_is_not_sent(permesh, daemon: Daemon, command) -> None:
    failed(permesh(*command))
    assert daemon.node.wanted == {}


# -- what waits ------------------------------------------------------------------------------------


def test_proposals_are_listed_and_approved_by_the_beginning_of_an_id(
    permesh, daemon: Daemon
) -> None:
    assert parsed(permesh("proposals", "--json")) == {"items": []}
    said(permesh("members", "suspend", "atlas", "--reason", "Away"))
    said(permesh("releases", "accept", "0.2.0", HASH))
    [heading, _, first, second] = lines(permesh("proposals"))
    assert heading.split() == ["proposal", "kind", "approvals", "what"]
    suspension, release = daemon.node.wanted
    assert first.split(maxsplit=5) == [
        suspension[:8], "suspension", "1", "of", "2", "atlas, suspension: Away",
    ]  # fmt: skip
    assert second.split()[:2] == [release[:8], "release"]
    assert [one["id"] for one in parsed(permesh("proposals", "--json"))["items"]] == [
        suspension,
        release,
    ]
    assert said(permesh("approve", suspension[:8])).startswith("1 of 2 approvals: ")
    daemon.node.waiting[suspension].approvals = ["AGT-0002"]
    assert said(permesh("approve", suspension[:8])) == "Decided: atlas, suspension: Away.\n"
    shown = parsed(permesh("approve", release, "--json"))
    assert (shown["id"], shown["decided"]) == (release, False)


def test_a_beginning_that_two_share_approves_neither(permesh, daemon: Daemon) -> None:
    for number in range(17):
        said(permesh("releases", "accept", f"0.{number}", HASH))
    begins = [one[0] for one in daemon.node.waiting]
    shared = next(one for one in begins if begins.count(one) > 1)
    for one in daemon.node.waiting.values():
        one.approvals = []
    assert "stands for" in failed(permesh("approve", shared))
    assert all(one.approvals == [] for one in daemon.node.waiting.values())


@pytest.mark.parametrize("command", [["releases"], ["releases", "list"]], ids=" ".join)
def test_releases_are_listed(permesh, daemon: Daemon, command: list[str]) -> None:
    assert parsed(permesh(*command, "--json")) == {"items": []}
    daemon.node.needed = 1
    said(permesh("releases", "accept", "0.2.0", HASH))
    said(permesh("releases", "withdraw", "0.1.0", "cd" * 32))
    rows = [line.split() for line in lines(permesh(*command))[2:]]
    assert rows == [["0.2.0", "yes", HASH], ["0.1.0", "withdrawn", "cd" * 32]]
    items = parsed(permesh(*command, "--json"))["items"]
    assert [(one["version"], one["accepted"]) for one in items] == [
        ("0.2.0", True),
        ("0.1.0", False),
    ]


# -- what is told ----------------------------------------------------------------------------------


def record_of_a_life(daemon: Daemon) -> None:
    daemon.node.public_record = [
        schema.ChronicleEvent(at_ms=NOW, kind="admission", text="admitted by ben", entry=4),
        schema.ChronicleEvent(at_ms=NOW + 1, kind="rotation", text="epoch 1 began"),
        schema.ChronicleEvent(at_ms=0, kind="fault", text="signed two records"),
    ]


@pytest.mark.parametrize("who", [[], ["atlas"], ["AGT-0001"], [AGENT]], ids=str)
def test_a_chronicle_is_a_line_an_event(permesh, daemon: Daemon, who: list[str]) -> None:
    record_of_a_life(daemon)
    title, heading, _, *rows = lines(permesh("chronicle", *who))
    assert title == "AGT-0001 atlas"
    assert heading.split() == ["when", "what", "entry"]
    assert [row.split(maxsplit=4)[2:] for row in rows[:2]] == [
        ["admission", "4", "admitted by ben"],
        ["rotation", "-", "epoch 1 began"],
    ]
    assert rows[2].split(maxsplit=3) == ["-", "fault", "-", "signed two records"]
    assert len(rows) == 3


def test_a_chronicle_in_json_and_what_it_leaves_out(permesh, daemon: Daemon) -> None:
    record_of_a_life(daemon)
    told = parsed(permesh("chronicle", "atlas", "--json"))
    assert (told["agent"], told["number"], told["name"]) == (AGENT, "AGT-0001", "atlas")
    assert told["items"] == [one.model_dump() for one in daemon.node.public_record]
    assert "not listed" not in said(permesh("chronicle"))
    daemon.node.left_out = 7
    assert "7 older rotations are not listed" in said(permesh("chronicle"))
    assert parsed(permesh("chronicle", "--json"))["left_out"] == 7


def clean(text: str) -> bool:
    return "evil" in text and not {"\x1b", "\x07", "\u202e"} & set(text)


def test_hostile_texts_are_cleaned_wherever_they_are_shown(permesh, daemon: Daemon) -> None:
    node = daemon.node
    record_of_a_life(daemon)
    before = len(said(permesh("chronicle")).splitlines())
    for event in node.public_record:
        event.text = HOSTILE
    told = said(permesh("chronicle"))
    assert clean(told)
    assert len(told.splitlines()) == before  # no line of its own making
    suspended = said(permesh("members", "suspend", "atlas", "--reason", HOSTILE))
    assert clean(suspended)
    assert len(suspended.splitlines()) == 1
    assert clean(said(permesh("approve", beginning(daemon))))
    waiting = said(permesh("proposals"))
    assert clean(waiting)
    assert len(waiting.splitlines()) == 3
    node.cosigned, node.needed = False, 1
    assert clean(said(permesh("members", "reinstate", "atlas", "--reason", HOSTILE)))
    node.cosigned = True
    decided = said(permesh("releases", "accept", HOSTILE[:32], HASH))
    assert clean(decided)
    assert len(decided.splitlines()) == 1
    shown = said(permesh("releases"))
    assert clean(shown)
    assert len(shown.splitlines()) == 3


def test_markup_in_a_chronicle_is_only_text(permesh, daemon: Daemon) -> None:
    daemon.node.public_record[0].text = "suspended: [bold red]:boom:[/] [link=x]y[/link]"
    assert "suspended: [bold red]:boom:[/] [link=x]y[/link]" in said(permesh("chronicle"))


def test_in_json_hostile_texts_are_as_they_are(permesh, daemon: Daemon) -> None:
    daemon.node.public_record[0].text = HOSTILE
    result = permesh("chronicle", "--json")
    assert parsed(result)["items"][0]["text"] == HOSTILE
    assert "\x1b" not in result.stdout  # JSON escapes it


LOG = schema.Log(size=12, root="77aa" * 16, registrars=3, threshold=2, quorum=2)


@pytest.mark.parametrize("size", [1, 12])
def test_status_shows_the_log(permesh, daemon: Daemon, size: int) -> None:
    daemon.node.log = LOG.model_copy(update={"size": size})
    words = said(permesh("status"))
    entries = "1 entry" if size == 1 else "12 entries"
    assert f"{entries}, 2 of 3 registrars decide, 2 cosign, root 77aa77aa77aa77aa" in words
    assert "STANDS STILL" not in words
    daemon.node.log = LOG.model_copy(update={"contradiction": HOSTILE})
    words = said(permesh("status"))
    assert "STANDS STILL" in words
    assert clean(words)


def test_status_in_json_shows_the_log(permesh, daemon: Daemon) -> None:
    daemon.node.log = LOG
    assert schema.Log.model_validate(parsed(permesh("status", "--json"))["log"]) == LOG
