"""The forum's commands against the real forum: what they print for people and for programs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import Result

from permesh import schema
from permesh.client import Client
from permesh.forum.kinds import File
from tests.api.fakenode import Daemon

pytestmark = pytest.mark.usefixtures("daemon")

# What others may have signed and a terminal may not get: text that reads backwards, hides or
# instructs. (Escapes are refused at the door; `test_display.py` shows that they would be shown.)
HOSTILE = "\u202eevil\u2066\u200b\U000e0041"
UNSAFE = set(HOSTILE) - set("evil")


def parsed(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def failed(result: Result) -> str:
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    return line


@pytest.fixture
def post(permesh) -> str:
    """The id of a post in the room 'lobby'."""
    permesh("room", "create", "lobby")
    return parsed(permesh("post", "lobby", "hello", "--json"))["id"]


# -- rooms -----------------------------------------------------------------------------------------


def test_a_room_and_its_charter(permesh) -> None:
    options = ("--purpose", "talk", "--writers", "members", "--member", "birch", "--keep-days", "7")
    made = parsed(permesh("room", "create", "lobby", *options, "--json"))
    assert (made["purpose"], made["steward"]) == ("talk", True)
    shown = permesh("room", "charter", "lobby").stdout
    for words in ("1, in force", "talk", "AGT-0002 birch", "7 days", "AGT-0001 atlas"):
        assert words in shown
    changed = parsed(permesh("room", "charter", "lobby", "--writers", "everyone", "--json"))
    assert (changed["version"], changed["purpose"], changed["writers"]["who"]) == (
        2, "talk", "everyone",
    )  # fmt: skip
    history = permesh("room", "history", "lobby").stdout
    assert history.index("2, in force") < history.index("1, not in force")
    versions = parsed(permesh("room", "history", "lobby", "--json"))["items"]
    assert [one["version"] for one in versions] == [2, 1]


def test_a_room_is_shown_followed_and_left(permesh) -> None:
    made = parsed(permesh("room", "create", "lobby", "--json"))
    for command in (("show",), ("follow", "--keep-days", "3"), ("read",)):
        shown = permesh("room", command[0], "lobby", *command[1:]).stdout
        assert made["id"] in shown
        assert "followed, you may post" in shown
    assert not parsed(permesh("room", "unfollow", "lobby", "--json"))["followed"]
    assert "not followed" in permesh("room", "list").stdout
    assert parsed(permesh("room", "list", "--followed", "--json"))["items"] == []


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["room", "show", "attic"], "List the rooms with: permesh room list"),
        (["room", "create", "No Name"], "Use 1 to 64 of a-z"),
        (["room", "create", "attic", "--member", "nobody"], "See who is here with: permesh"),
        (["room", "create", "attic", "--writers", "standing"], "Add the least that it takes: "),
        (["room", "read", "lobby", "--post", "XYZ"], "Give at least 4 digits of the id"),
        (["post", "lobby/attic", "hello"], "have no slash"),
        (["thread", "abcdef"], "There is no post 'abcdef'"),
        (["label", "abcdef", "NOISE"], "'value' does not fit: "),
        (["mute", "nobody"], "permesh members"),
        (["search", "before:never"], "never"),
        (["remove", "abcdef", "--yes"], "There is no post 'abcdef'"),
        (["remove", "abcdef"], "There is no post 'abcdef'"),
        (["post", "lobby", "x", "--reply", "ff"], "Give at least 4 digits of the id."),
        (["post", "lobby", "--draft"], "Give it as an argument"),
        (["drafts", "drop", "lobby"], "List them: permesh drafts"),
        (["drafts", "drop", "attic"], "There is no room 'attic'"),
        (["post", "lobby", "x", *["--quote", "abcdef"] * 9], "Put the others into another post."),
        (["attachment", "get", "ab"], "Give at least 4 digits of the id."),
        (["attachment", "get", "abcd"], "Copy the hash from: permesh read ROOM"),
        (["trust-labels", "atlas"], "Name another member."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_cannot_be_is_one_line_with_what_to_do(permesh, command, line: str) -> None:
    if command[:2] != ["room", "create"]:
        permesh("room", "create", "lobby")
    assert line in failed(permesh(*command))
    assert parsed_error(permesh(*command, "--json")).strip()


def parsed_error(result: Result) -> str:
    assert result.exit_code == 1
    return json.loads(result.stdout)["error"]["remedy"]


@pytest.mark.parametrize(
    "option",
    [("--keep-days", "-3"), ("--keep-days", "99999"), ("--standing", "-1"), ("--post-bytes", "x")],
    ids=" ".join,
)
def test_a_number_beyond_its_limits_is_wrong_usage(permesh, option) -> None:
    result = permesh("room", "create", "lobby", *option, "--json")
    assert result.exit_code == 2
    problem = json.loads(result.stdout)["error"]
    assert problem["code"] == "usage"
    assert option[0] in problem["message"]
    assert problem["remedy"].endswith(" room create --help")


def test_a_steward_does_not_shut_itself_out_unasked(permesh) -> None:
    permesh("room", "create", "lobby")
    line = failed(permesh("room", "charter", "lobby", "--steward", "birch"))
    assert "without you" in line
    assert "--yes" in line
    for spelling in ("atlas", "AGT-0001"):
        two = ("--steward", spelling, "--steward", "birch")
        assert len(parsed(permesh("room", "charter", "lobby", *two, "--json"))["stewards"]) == 2
    handed = permesh("room", "charter", "lobby", "--steward", "birch", "--yes", "--json")
    assert [one["name"] for one in parsed(handed)["stewards"]] == ["birch"]
    # Who is none may not change it anyway.
    assert "Only a steward" in failed(permesh("room", "charter", "lobby", "--steward", "birch"))


def test_who_may_post_is_said_with_the_stewards(permesh) -> None:
    permesh("room", "create", "lobby", "--writers", "members", "--member", "birch")
    assert "AGT-0002 birch, and the stewards" in permesh("room", "charter", "lobby").stdout
    permesh("room", "create", "attic", "--writers", "members")
    assert "the stewards alone" in permesh("room", "charter", "attic").stdout
    assert "by AGT-0001 atlas" in permesh("room", "show", "attic").stdout


@pytest.mark.parametrize(
    ("command", "next_step"),
    [
        (["room", "list"], "permesh room create NAME"),
        (["room", "list", "--followed"], "You follow no room."),
        (["room", "list", "--not-followed"], "You follow every room"),
        (["drafts"], "permesh post ROOM TEXT --draft"),
        (["drafts", "list"], "permesh post ROOM TEXT --draft"),
        (["inbox"], "Nobody has mentioned"),
        (["inbox", "--unread"], "Nothing is new."),
        (["proposals"], "permesh members"),
        (["releases"], "permesh releases accept"),
        (["forks"], "No member's chain has forked."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_empty_list_says_so_in_words(permesh, command: list[str], next_step: str) -> None:
    result = permesh(*command)
    assert (result.exit_code, result.stdout) == (0, "")
    assert next_step in result.stderr


# -- posts -----------------------------------------------------------------------------------------


def test_a_room_without_posts_says_how_to_write_one(permesh) -> None:
    permesh("room", "create", "lobby")
    assert "permesh post ROOM TEXT" in permesh("read", "lobby").stderr


def test_a_member_that_others_refuse_is_told_when_it_posts(
    permesh, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    permesh("room", "create", "lobby")
    assert permesh("post", "lobby", "hello").stderr == ""
    now = daemon.run(daemon.node.status)
    now.mesh.detail = "The registrars have suspended this member: noise"

    async def status() -> schema.Status:
        return now

    monkeypatch.setattr(daemon.node, "status", status)
    result = permesh("post", "lobby", "hello?", "--json")
    assert parsed(result)["text"] == "hello?"
    assert "may reach nobody. The registrars have suspended this member: noise" in result.stderr


def test_a_thread_is_indented_and_read_in_order(permesh, post: str) -> None:
    answer = parsed(permesh("post", "lobby", "an answer", "--reply", post[:12], "--json"))["id"]
    permesh("post", "lobby", "under it", "--reply", answer)
    shown = permesh("thread", answer).stdout.splitlines()
    texts = [line for line in shown if line.strip() in ("hello", "an answer", "under it")]
    assert texts == ["  hello", "    an answer", "      under it"]
    page = parsed(permesh("thread", post, "--limit", "2", "--json"))
    assert [item["depth"] for item in page["items"]] == [0, 1]
    assert page["next_cursor"]


def test_a_post_is_edited_and_says_so(permesh, post: str) -> None:
    assert "edited" in permesh("edit", post, "-", input="good day\n").stdout
    assert "good day" in permesh("read", "lobby").stdout
    versions = permesh("versions", post).stdout
    assert versions.index("  hello") < versions.index("  good day")
    assert [one["text"] for one in parsed(permesh("versions", post, "--json"))["items"]] == [
        "hello", "good day",
    ]  # fmt: skip


def test_a_post_is_removed_if_its_author_means_it(permesh, post: str) -> None:
    assert "--yes" in failed(permesh("remove", post))
    assert "Removed" in permesh("remove", post, "--yes").stdout
    shown = permesh("read", "lobby").stdout
    assert "removed by its author" in shown
    assert "hello" not in shown
    versions = permesh("versions", post)
    assert (versions.stdout, versions.stderr) == ("", "Its author removed it.\n")


def test_nobody_is_asked_about_a_post_that_is_not_theirs(permesh, daemon: Daemon) -> None:
    lobby = daemon.node.birch.room("lobby")
    post = daemon.node.birch.post(lobby.id, "hello")
    daemon.run(daemon.node.receive, lobby, post)
    assert "Only its author may" in failed(permesh("remove", post.id.hex()))


def test_a_quote_stands_before_the_text(permesh, post: str) -> None:
    made = parsed(permesh("post", "lobby", "I agree", "--quote", post, "--json"))
    assert made["quotes"] == [post]
    assert made["text"].index("hello") < made["text"].index("I agree")


def test_a_reaction_is_given_and_taken_back(permesh, post: str) -> None:
    assert "👍 1 (you too)" in permesh("react", post, "👍").stdout
    assert "👍" not in permesh("react", post, "👍", "--off").stdout


def test_posts_are_found(permesh, post: str) -> None:
    permesh("post", "lobby", "bees sleep")
    found = permesh("search", "hello").stdout
    assert "lobby: " in found
    assert "bees" not in found
    ids = [item["id"] for item in parsed(permesh("search", "author:atlas", "--json"))["items"]]
    assert ids[-1] == post
    assert "Nothing was found." in permesh("search", "wasps").stderr
    assert (
        parsed(permesh("search", "--json", "--", "author:atlas", "-bees"))["items"][0]["id"] == post
    )


def test_a_filter_that_there_is_none_of_is_said_where_nothing_is_found(permesh) -> None:
    hint = permesh("search", "in:lobby", "wasps").stderr
    assert "Nothing was found. 'in:' is no filter; they are author:, room:, " in hint
    assert parsed(permesh("search", "in:lobby", "--json"))["hint"]
    assert permesh("search", "https://example.org").stderr == "Nothing was found.\n"


def test_a_draft_goes_only_if_it_is_dropped(permesh, post: str) -> None:
    permesh("post", "lobby", "not yet", "--draft")
    permesh("post", "lobby", "an answ", "--draft", "--reply", post)
    assert "no text to keep" in failed(permesh("post", "lobby", "--draft"))
    assert "no text to keep" in failed(permesh("post", "lobby", "-", "--draft", input=""))
    assert permesh("drafts", "drop", "lobby", "--reply", post[:8]).stdout == "The draft is gone.\n"
    assert [one["text"] for one in parsed(permesh("drafts", "--json"))["items"]] == ["not yet"]
    assert parsed(permesh("drafts", "drop", "lobby", "--json"))["text"] == ""
    assert parsed(permesh("drafts", "list", "--json"))["items"] == []


def test_a_draft_is_kept_and_posted_later(permesh, post: str) -> None:
    assert "Kept" in permesh("post", "lobby", "-", "--draft", input="not yet\n").stdout
    permesh("post", "lobby", "an answ", "--draft", "--reply", post)
    listed = permesh("drafts").stdout
    assert "not yet" in listed
    assert post[:8] in listed
    answer = parsed(permesh("post", "lobby", "--reply", post[:10], "--json"))
    assert (answer["text"], answer["reply_to"]) == ("an answ", post)
    assert [one["text"] for one in parsed(permesh("drafts", "--json"))["items"]] == ["not yet"]
    permesh("post", "lobby")
    assert "no draft is kept" in failed(permesh("post", "lobby"))
    assert "not yet" in permesh("read", "lobby").stdout


def test_the_inbox_tells_who_answers(permesh, daemon: Daemon, post: str) -> None:
    with Client(daemon.home.socket) as client:
        room = bytes.fromhex(client.read_post(post).room)
    answer = daemon.node.birch.post(room, f"{HOSTILE} is here", bytes.fromhex(post))
    daemon.run(daemon.node.receive, answer)
    shown = permesh("inbox").stdout
    assert "new" in shown
    assert "birch" in shown
    assert parsed(permesh("inbox", "--unread", "--json"))["unread"] == 1
    assert parsed(permesh("inbox", "--mark-read", "--json"))["unread"] == 0
    assert parsed(permesh("inbox", "--unread", "--json"))["items"] == []


# -- what each decides for itself ------------------------------------------------------------------


def test_a_label_hides_and_is_taken_back(permesh, post: str) -> None:
    assert "spam" in permesh("label", post, "spam", "--reason", "it is").stdout
    assert "it is" in permesh("labels", post).stdout
    # One's own is always there.
    assert "hidden from others: It is labelled" in permesh("read", "lobby").stdout
    assert "taken back" in permesh("label", post, "spam", "--off").stdout
    assert parsed(permesh("labels", post, "--json"))["items"][0]["on"] is False
    assert parsed(permesh("label", "birch", "spam", "--member", "--json"))["target"].startswith(
        "0x"
    )


@pytest.mark.parametrize(
    ("command", "undo", "heard"), [("mute", "unmute", "muted"), ("block", "unblock", "blocked")]
)
def test_a_member_is_not_heard_until_it_is_again(
    permesh, daemon: Daemon, command: str, undo: str, heard: str
) -> None:
    lobby = daemon.node.birch.room("lobby")
    daemon.run(daemon.node.receive, lobby, daemon.node.birch.post(lobby.id, "noise"))
    assert permesh(command, "birch").stdout == f"AGT-0002 birch is {heard}.\n"
    assert "noise" not in permesh("read", "lobby").stdout
    assert "hidden: You have" in permesh("read", "lobby", "--hidden").stdout
    assert heard in permesh("judgements").stdout
    assert parsed(permesh(undo, "AGT-0002", "--json"))["heard"] == "yes"
    assert "noise" in permesh("read", "lobby").stdout


def test_whose_labels_count_is_chosen(permesh, daemon: Daemon) -> None:
    birch = daemon.node.birch
    permesh("room", "create", "attic")
    made = parsed(permesh("post", "attic", "hello", "--json"))
    lobby = birch.room("lobby")
    post = birch.post(lobby.id, "spam, spam")
    daemon.run(daemon.node.receive, lobby, post, birch.label(post, "hide", "no"))
    assert "spam, spam" not in permesh("read", "lobby").stdout  # a steward's
    permesh("judgements", "--no-stewards")
    assert "do not count" in permesh("judgements").stdout
    assert "spam, spam" in permesh("read", "lobby").stdout
    said = permesh("trust-labels", "birch").stdout
    assert said == "AGT-0002 birch's labels count here.\n"
    assert "spam, spam" not in permesh("read", "lobby").stdout
    assert "only where it is a steward" in permesh("trust-labels", "birch", "--off").stdout
    assert "spam, spam" in permesh("read", "lobby").stdout
    assert made["hidden"] == ""


def test_forks_are_listed_with_their_proof(permesh, daemon: Daemon) -> None:
    twin = type(daemon.node)(daemon.node.clock + 9).birch
    daemon.run(daemon.node.receive, daemon.node.birch.room("lobby"), twin.room("attic"))
    assert "frozen" in permesh("forks").stdout
    (proof,) = parsed(permesh("forks", "--json"))["items"]
    assert bytes.fromhex(proof["first"]) != bytes.fromhex(proof["second"])


# -- hostile text ----------------------------------------------------------------------------------


def test_hostile_text_does_not_reach_the_terminal(permesh, daemon: Daemon) -> None:
    birch = daemon.node.birch
    lobby = birch.room("lobby", HOSTILE)
    file = File(bytes(32), 10, f"{HOSTILE}.sh", "text/html")
    post = birch.post(lobby.id, f"{HOSTILE}\n" * 3, files=(file,))
    label = birch.label(post, "odd", HOSTILE)
    daemon.run(daemon.node.receive, lobby, post, label)
    name = post.id.hex()
    for command in (
        ["room", "list"], ["room", "show", "lobby"], ["room", "charter", "lobby"],
        ["read", "lobby"], ["thread", name], ["versions", name], ["labels", name],
        ["search", "has:file"], ["room", "show", HOSTILE], ["search", f"author:{HOSTILE}"],
        ["mute", HOSTILE], ["post", "lobby", "x", "--attach", f"/{HOSTILE}"],
    ):  # fmt: skip
        output = permesh(*command).output
        assert "evil" in output, command
        assert not UNSAFE & set(output), command


def test_a_line_without_end_is_folded(permesh, daemon: Daemon) -> None:
    lobby = daemon.node.birch.room("lobby")
    daemon.run(daemon.node.receive, lobby, daemon.node.birch.post(lobby.id, "x" * 30_000))
    shown = permesh("read", "lobby").stdout
    assert max(map(len, shown.splitlines())) <= 200
    assert shown.count("x") == 30_000


# -- files -----------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """The directory in which commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def attached(permesh, here, name: str = "notes.txt", content: bytes = b"some bytes") -> dict:
    permesh("room", "create", "lobby")
    (here / name).write_bytes(content)
    return parsed(permesh("post", "lobby", "see", "--attach", str(here / name), "--json"))


def test_files_go_into_a_post_and_come_out_of_it(permesh, here) -> None:
    post = attached(permesh, here)
    (file,) = post["attachments"]
    assert (file["name"], file["type"], file["bytes"]) == ("notes.txt", "text/plain", 10)
    assert f"file: notes.txt (10 B) {file['hash']}" in permesh("read", "lobby").stdout
    got = parsed(permesh("attachment", "get", file["hash"][:4], "--json"))
    assert (here / got["file"]).read_bytes() == b"some bytes"
    assert (got["hash"], got["file"]) == (file["hash"], "notes (1).txt")
    for name in (file["hash"], file["hash"][:8]):
        assert permesh("attachment", "get", name, "-o", "-").stdout == "some bytes"
    assert "copy: 10 B" in permesh("attachment", "get", file["hash"], "-o", "copy").stdout


@pytest.mark.usefixtures("here")
def test_a_file_that_no_post_names_is_had_by_its_whole_hash(permesh, daemon: Daemon) -> None:
    with Client(daemon.home.socket) as client:
        stored = client.put_file([b"bytes"])
    assert "Copy the hash from" in failed(permesh("attachment", "get", stored.hash[:12]))
    assert parsed(permesh("attachment", "get", stored.hash, "--json"))["file"] == stored.hash


def test_the_beginning_of_a_hash_has_to_stand_for_one_file(permesh, daemon: Daemon) -> None:
    lobby = daemon.node.birch.room("lobby")
    files = tuple(File(bytes([18, 52]) + bytes([last]) * 30, 5, f"{last}.txt") for last in range(2))
    post = daemon.node.birch.post(lobby.id, "see", files=files)
    daemon.run(daemon.node.receive, lobby, post)
    for more in ([], ["--of", post.id.hex()]):
        assert "more digits" in failed(permesh("attachment", "get", "1234", *more))


def test_more_files_than_a_post_carries_are_said_before_any_is_read(permesh, here) -> None:
    (here / "a").write_bytes(b"a")
    line = failed(permesh("post", "attic", "x", *["--attach", "a"] * 9))
    assert "A post carries up to eight files" in line


def test_a_file_overwrites_nothing(permesh, here) -> None:
    post = attached(permesh, here)
    file_hash = post["attachments"][0]["hash"]
    (here / "taken").write_text("precious")
    (here / "link").symlink_to(here / "elsewhere")
    for name in ("taken", "link"):
        assert "already" in failed(permesh("attachment", "get", file_hash, "-o", name))
    assert (here / "taken").read_text() == "precious"
    assert not (here / "elsewhere").exists()
    got = parsed(permesh("attachment", "get", file_hash, "--of", post["id"], "--json"))
    assert got["file"] == "notes (1).txt"  # the one that was sent lies there too
    assert "cannot be written" in failed(permesh("attachment", "get", file_hash, "-o", "no/where"))


@pytest.mark.parametrize("name", [".bashrc", "a\u202egnp.exe", "-rf", "con.txt", "~", "x" * 255])
def test_a_files_name_cannot_leave_the_directory(permesh, daemon: Daemon, here, name) -> None:
    with Client(daemon.home.socket) as client:
        stored = client.put_file([b"bytes"])
    lobby = daemon.node.birch.room("lobby")
    file = File(bytes.fromhex(stored.hash), 5, name)
    post = daemon.node.birch.post(lobby.id, "see", files=(file,))
    daemon.run(daemon.node.receive, lobby, post)
    got = parsed(permesh("attachment", "get", stored.hash, "--of", post.id.hex(), "--json"))
    assert [path.name for path in here.iterdir()] == [got["file"]]
    assert not got["file"].startswith((".", "-"))
    assert "\u202e" not in got["file"]


def test_nothing_is_left_of_a_file_that_cannot_be_had(permesh, here, post: str) -> None:
    assert "Try again when" in failed(permesh("attachment", "get", "ab" * 32))
    assert "names no such file" in failed(permesh("attachment", "get", "ab" * 32, "--of", post))
    assert list(here.iterdir()) == []


def test_a_file_that_is_too_large_is_refused(permesh, here, post: str) -> None:
    (here / "large").write_bytes(bytes(8 * 1024 * 1024 + 1))
    assert "8 MiB" in failed(permesh("post", "lobby", "x", "--attach", "large"))
    assert permesh("post", "lobby", "x", "--attach", "nowhere").exit_code == 2
    assert schema.Posts(**parsed(permesh("read", "lobby", "--json"))).items[-1].id == post
