"""What members see of each other, with every part real: processes, sockets, libp2p, MLX."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from functools import partial
from pathlib import Path

import pytest

from permesh import schema
from permesh.config import Home
from permesh.demo import Demo, Member, stop, wait_for
from permesh.errors import PermeshError
from tests.compute import tiny

SECONDS = 60.0
QUESTION = [{"role": "user", "content": "w3 w1 w4 w1 w5"}]


def texts(member: Member) -> list[str]:
    return [post.text for post in member.client.posts("lobby", limit=500).items]


def has_text(member: Member, text: str) -> bool:
    return text in texts(member)


def command(member: Member, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        member.command(*arguments),
        env=member.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def refusal(member: Member, *arguments: str) -> str:
    """The one line in which a command fails."""
    done = command(member, *arguments)
    assert done.returncode == 1, done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("permesh: ")
    return lines[0]


def answer(member: Member, route: str = "mesh", max_tokens: int = 12) -> schema.Route:
    for delta in member.client.chat(tiny.NAME, QUESTION, max_tokens=max_tokens, route=route):
        if delta.route is not None:
            return delta.route
    raise AssertionError("the answer has no route")


def test_everyone_knows_everyone(fleet: Demo) -> None:
    for member in fleet.members:
        roster = {one.name: one for one in member.client.members().items if one.number}
        assert {name: one.number for name, one in roster.items()} == {
            "atlas": "AGT-0001",
            "birch": "AGT-0002",
            "coral": "AGT-0003",
        }
        assert roster["atlas"].state == "registrar"
        assert roster["birch"].vouched_by == "AGT-0001"
        status = json.loads(command(member, "status", "--json").stdout)
        assert len(status["peers"]) == 2
        assert all(f"/p2p/{status['peer_id']}" in one for one in status["addresses"])


def test_the_id_card_is_the_same_with_and_without_a_daemon(fleet: Demo) -> None:
    birch = fleet.birch
    running = birch.client.identity()
    assert running.number == "AGT-0002"
    assert running.expires_ms - running.issued_ms == 72 * 3_600_000
    at_rest = subprocess.run(
        [
            birch.command()[0], "-c",
            "import sys; from pathlib import Path; from permesh import offline, config\n"
            "print(offline.identity_card(config.Home(Path(sys.argv[1]))).model_dump_json())",
            str(birch.home.root),
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert schema.Identity.model_validate_json(at_rest.stdout) == running


def test_who_was_away_gets_what_it_missed(fleet: Demo) -> None:
    fleet.coral.signal(signal.SIGTERM)
    assert fleet.coral.process is not None
    assert fleet.coral.process.wait(20) == 0
    for number in range(5):
        fleet.birch.client.post("lobby", f"while you were away {number}")
    fleet.coral.start()
    wait_for("the posts", SECONDS, partial(has_text, fleet.coral, "while you were away 4"))
    missed = [text for text in texts(fleet.coral) if text.startswith("while you")]
    assert missed == [f"while you were away {number}" for number in range(5)]


def test_confirmed_posts_survive_sigkill_and_reach_the_others(fleet: Demo) -> None:
    confirmed = []
    with pytest.raises(PermeshError) as caught:  # noqa: PT012 - killed in the middle
        for number in range(1000):
            if number == 15:
                fleet.birch.signal(signal.SIGKILL)
            confirmed.append(fleet.birch.client.post("lobby", f"before the kill {number}").text)
    assert caught.value.code in ("daemon.gone", "daemon.absent")
    assert fleet.birch.process is not None
    fleet.birch.process.wait(20)
    fleet.birch.start()
    kept = texts(fleet.birch)
    assert [text for text in confirmed if text not in kept] == []
    after = fleet.birch.client.post("lobby", "after the kill").text  # the chain goes on unforked
    for other in (fleet.atlas, fleet.coral):
        # Gossip brings the last one first; what the kill kept from being told comes by a pull.
        wait_for(
            f"the posts at {other.name}",
            SECONDS,
            lambda other=other: {*confirmed, after} <= set(texts(other)),
        )


def test_three_members_answer_as_one_does(fleet: Demo) -> None:
    fleet.birch.client.serve(tiny.NAME, "2:6")
    fleet.coral.client.serve(tiny.NAME, "6:10")
    wait_for("the chain", SECONDS, lambda: len(fleet.atlas.client.models().items[0].served) == 2)
    split = answer(fleet.atlas)
    assert split.route == "exposed"
    assert [(stage.name, stage.first, stage.last) for stage in split.stages] == [
        ("atlas", 0, 2),
        ("birch", 2, 6),
        ("coral", 6, 10),
        ("atlas", 10, 12),
    ]
    whole = answer(fleet.atlas, "local")
    assert whole.route == "local"
    assert whole.token_ids == split.token_ids
    assert len(whole.token_ids) == 12


def test_a_killed_engine_is_a_clear_error_and_comes_back(fleet: Demo) -> None:
    engine = fleet.birch.client.status().engine
    assert engine.state == "ready"
    stream = fleet.atlas.client.chat(tiny.NAME, QUESTION, max_tokens=3000, route="mesh")
    next(stream)
    subprocess.run(["kill", "-9", str(engine.pid)], check=True)
    with pytest.raises(PermeshError) as caught:
        list(stream)
    assert "birch" in caught.value.message
    wait_for(
        "birch's engine",
        SECONDS,
        lambda: (
            fleet.birch.client.status().engine.state == "ready"
            and fleet.birch.client.status().engine.weight_bytes > 0
        ),
    )
    assert fleet.birch.client.status().engine.pid != engine.pid
    assert len(answer(fleet.atlas).token_ids) == 12


def test_a_missing_chain_says_what_to_serve(fleet: Demo) -> None:
    for member in (fleet.birch, fleet.coral):
        member.client.stop_serving(tiny.NAME)
    wait_for("the news", SECONDS, lambda: not fleet.atlas.client.models().items[0].served)
    with pytest.raises(PermeshError) as caught:
        answer(fleet.atlas)
    assert (
        caught.value.message == f"No connected member serves layers in the middle of {tiny.NAME}."
    )
    assert f"permesh model serve {tiny.NAME} --layers" in caught.value.remedy


def test_garbage_on_the_ports_changes_nothing(fleet: Demo) -> None:
    status = fleet.atlas.client.status()
    port = int(status.addresses[0].split("/tcp/")[1].split("/")[0])
    garbage = bytes(range(256)) * 64
    for family, place in (
        (socket.AF_INET, ("127.0.0.1", port)),
        (socket.AF_UNIX, str(fleet.atlas.home.socket)),
    ):
        for _ in range(5):
            with socket.socket(family) as probe:
                probe.settimeout(5)
                probe.connect(place)
                try:
                    probe.sendall(garbage)
                    probe.recv(1000)
                except OSError:
                    pass  # refused: as it should be
    assert fleet.atlas.client.status().pid == status.pid
    assert len(fleet.atlas.client.status().peers) == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("post", "nowhere", "hello"), "room"),
        (("read", "nowhere"), "room"),
        (("post", "lobby", "x" * 40_000), "32"),
        (("post", "lobby", "hello", "--reply", "abcdef"), "post"),
        (("room", "create", "Not A Name"), "name"),
        (("ask", "no-such-model", "hello"), "model"),
        (("model", "serve", tiny.NAME, "--layers", "6:99"), "layers"),
        (("model", "serve", tiny.NAME, "--layers", "six"), "layers"),
        (("model", "stop", "no-such-model"), "served"),
        (("members", "admit", "nobody"), "members"),
        (("mesh", "join", "permesh1:AAAA", "--person", "ann"), "invite"),
        (("mesh", "join", "permesh1:AAAA"), "--person"),
        (("daemon",), "running"),
        (("mesh", "create", "another", "--person", "ann"), "running"),
        (("init", "--name", "again"), "identity"),
    ],
)
def test_bad_input_is_one_line_with_a_remedy(
    fleet: Demo, arguments: tuple[str, ...], expected: str
) -> None:
    assert expected in refusal(fleet.atlas, *arguments)


def test_a_truncated_model_is_refused(fleet: Demo) -> None:
    tiny.make(fleet.models, "cut")
    weights = fleet.models / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "model fetch cut" in refusal(fleet.birch, "model", "serve", "cut", "--layers", "2:4")


def test_a_stranger_stays_outside(root: Path, fleet: Demo) -> None:
    """Asking to be let in is all that it can do; it neither reads nor writes."""
    stranger = Member("stray", Home(root / "stray"), fleet.atlas.environment)
    stranger.run("init", "--name", "stray")
    stranger.run("mesh", "join", fleet.atlas.client.invite().line, "--person", "stray")
    try:
        stranger.start()
        with pytest.raises(PermeshError, match="not a member"):
            stranger.client.create_room("mine")
        status = stranger.client.status()
        assert status.peers == []
        assert stranger.client.rooms().items == []
        assert all(peer.name != "stray" for peer in fleet.atlas.client.status().peers)
    finally:
        stop([stranger])
