"""How the command fails: one line, a remedy, an exit status, never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from permesh.cli import main
from permesh.cli.passphrase import read_passphrase
from permesh.cli.root import Root
from permesh.errors import PermeshError
from tests.api.fakenode import MODEL, Daemon

ABSENT = "permesh: No daemon is running on this home. Start one with: permesh daemon\n"

NEED_A_DAEMON = [
    ["status"],
    ["members"],
    ["members", "admit", "coral"],
    ["members", "suspend", "coral"],
    ["members", "reinstate", "coral"],
    ["chronicle"],
    ["chronicle", "coral"],
    ["registrars", "add", "coral"],
    ["registrars", "remove", "coral"],
    ["registrars", "replace", "coral", "atlas"],
    ["releases"],
    ["releases", "list"],
    ["releases", "accept"],
    ["releases", "withdraw", "0.2.0", "ab" * 32],
    ["proposals"],
    ["approve", "77"],
    ["mesh", "invite"],
    ["mesh", "resolve", "77"],
    ["room", "create", "lobby"],
    ["room", "list"],
    ["post", "lobby", "hello"],
    ["read", "lobby"],
    ["read", "lobby", "--follow"],
    ["model", "serve", MODEL],
    ["model", "stop", MODEL],
    ["model", "list"],
    ["ask", MODEL, "Why?"],
]


@pytest.mark.parametrize("command", NEED_A_DAEMON, ids=" ".join)
def test_without_a_daemon_each_command_says_how_to_start_one(permesh, command) -> None:
    result = permesh(*command)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", ABSENT)


def test_with_json_the_error_is_an_object_too(permesh) -> None:
    result = permesh("status", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"] == {
        "code": "daemon.absent",
        "message": "No daemon is running on this home.",
        "remedy": "Start one with: permesh daemon",
    }
    assert result.stderr == ABSENT


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            ["read", "nowhere"],
            "There is no room 'nowhere' here. List the rooms with: permesh room list",
        ),
        (["post", "nowhere", "hello"], "There is no room 'nowhere' here."),
        (["ask", "gpt-9", "Why?"], "Fetch it with: permesh model fetch NAME"),
        (["model", "serve", "gpt-9"], "The model 'gpt-9' is not here."),
        (["model", "serve", MODEL, "--layers", "6:99"], f"{MODEL} has 30 layers."),
    ],
)
@pytest.mark.usefixtures("daemon")
def test_what_does_not_exist_is_named(permesh, command, expected: str) -> None:
    result = permesh(*command)
    assert result.exit_code == 1
    assert expected in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    [
        ["frobnicate"],
        ["post"],
        ["react", "abcd"],
        ["ask", MODEL, "x", "--max-tokens", "0"],
        ["init"],
    ],
)
def test_wrong_usage_exits_2(permesh, command: list[str]) -> None:
    result = permesh(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    asked = permesh(*command, "--json")
    assert asked.exit_code == 2
    assert json.loads(asked.stdout)["error"]["remedy"].endswith("--help")
    assert permesh(*command, "--", "--json").stdout == ""


@pytest.mark.parametrize(("prompt", "typed"), [("", ""), (" \n", ""), ("-", ""), ("-", "\n")])
def test_a_prompt_without_text_is_refused_before_anyone_is_asked(tmp_path, prompt, typed) -> None:
    arguments = ["--home", str(tmp_path), "ask", "tiny", prompt]
    result = CliRunner().invoke(main, arguments, input=typed)
    assert result.exit_code == 1
    assert result.stderr == "permesh: The prompt has no text. Write a question.\n"


def test_a_home_too_deep_for_a_socket_is_said(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 100)
    result = CliRunner().invoke(main, ["--home", str(home), "status"])
    assert result.exit_code == 1
    assert "Set PERMESH_HOME to a shorter directory." in result.stderr


def test_a_user_without_a_home_directory_is_told_to_name_one(monkeypatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")  # as pathlib does

    monkeypatch.delenv("PERMESH_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 1
    assert "Set PERMESH_HOME" in result.stderr


@click.group(cls=Root)
def broken() -> None:
    """A command line that fails in every way."""


FAILURES = {
    "fault": ValueError("what\x1b[31m"),
    "known": PermeshError("a.code", "What.", "How."),
    "grouped": ExceptionGroup(
        "g", [ExceptionGroup("g", [PermeshError("a.code", "What.", "How.")])]
    ),
    "interrupt": KeyboardInterrupt(),
    "interrupted-group": BaseExceptionGroup("g", [KeyboardInterrupt()]),
}


@broken.command()
@click.argument("kind")
def fail(kind: str) -> None:
    raise FAILURES[kind]


@pytest.mark.parametrize(
    ("kind", "status", "line"),
    [
        ("fault", 1, "permesh: An unexpected error (ValueError: what␛[31m)."),
        ("known", 1, "permesh: What. How."),
        ("grouped", 1, "permesh: What. How."),
        ("interrupt", 130, ""),
        ("interrupted-group", 130, ""),
    ],
)
def test_whatever_is_raised_is_one_line(kind: str, status: int, line: str) -> None:
    result = CliRunner().invoke(broken, ["fail", kind])
    assert result.exit_code == status
    assert result.stderr.strip().startswith(line)
    assert len(result.stderr.strip().splitlines()) <= 1
    assert "Traceback" not in result.output


def test_the_traceback_is_there_when_asked_for() -> None:
    result = CliRunner().invoke(broken, ["fail", "fault"], env={"PERMESH_DEBUG": "1"})
    assert "Traceback" in result.stderr
    assert "daemon.log" in result.stderr.splitlines()[-1]


def permesh_process(environment, *arguments: str, **more) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "permesh", *arguments],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
    )  # fmt: skip


def test_ctrl_c_ends_an_answer_with_130_and_cancels_it(environment, daemon: Daemon) -> None:
    process = permesh_process(environment, "ask", MODEL, "endless")
    assert process.stdout.read(10) == "again and "
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in complaint
    daemon.run(daemon.node.until, lambda: daemon.node.answering == 0)


def test_a_reader_that_leaves_is_no_error(environment, daemon: Daemon) -> None:
    process = permesh_process(environment, "ask", MODEL, "endless")
    process.stdout.read(10)
    process.stdout.close()
    complaint = process.stderr.read()
    assert process.wait(timeout=10) == 1
    assert complaint == ""
    daemon.run(daemon.node.until, lambda: daemon.node.answering == 0)
    process.stderr.close()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion(permesh, shell: str) -> None:
    result = permesh("completion", shell)
    assert result.exit_code == 0
    assert "_PERMESH_COMPLETE" in result.stdout
    assert "permesh completion" in result.stderr


def test_completion_knows_the_commands(environment) -> None:
    asked = {**environment, "_PERMESH_COMPLETE": "bash_complete", "COMP_WORDS": "permesh mem",
             "COMP_CWORD": "1"}  # fmt: skip
    script = Path(sys.executable).parent / "permesh"
    done = subprocess.run(
        [script], env=asked, capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout.strip() == "plain,members"


def test_the_passphrase_comes_from_a_descriptor() -> None:
    for given, expected in ((b"s3cret \xc3\xa9\nmore", "s3cret é"), (b"plain", "plain")):
        reading, writing = os.pipe()
        os.write(writing, given)
        os.close(writing)
        assert read_passphrase(reading) == expected
        os.close(reading)


@pytest.mark.parametrize("given", [b"", b"\n", b"\xff\n", b"x" * 5000])
def test_a_passphrase_that_is_none_is_refused(given: bytes) -> None:
    reading, writing = os.pipe()
    os.write(writing, given)
    os.close(writing)
    with pytest.raises(PermeshError) as caught:
        read_passphrase(reading)
    os.close(reading)
    assert caught.value.code == "passphrase.unreadable"
    with pytest.raises(PermeshError):
        read_passphrase(reading)  # closed by now
