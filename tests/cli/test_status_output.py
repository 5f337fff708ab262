"""What peers did wrong is said by its kind, and who was disconnected for it."""

from __future__ import annotations

from rich.console import Console

from permesh import schema
from permesh.cli import output


def shown(**changes: object) -> str:
    status = schema.Status(
        version="1", name="atlas", agent="0x", number="AGT-0001", pid=1, started_ms=0,
        peer_id="me", addresses=[], credential=None, serving=[], records=0,
        mesh=schema.Mesh(id="", name="orchard", state="member"),
        engine=schema.Engine(state="stopped"), **{"peers": [], **changes},
    )  # fmt: skip
    console = Console(width=160)
    with console.capture() as capture:
        for table in output.status(status):
            console.print(table)
    return capture.get()


def peer(**changes: object) -> schema.Peer:
    values = {
        "peer_id": "p", "agent": "0x", "number": "AGT-0002", "name": "birch",
        "address": "/ip4/127.0.0.1", "connected_ms": 0, **changes,
    }  # fmt: skip
    return schema.Peer(**values)


def test_a_peer_without_faults_takes_one_line() -> None:
    assert shown(peers=[peer()]).count("birch") == 1


def test_what_a_peer_did_wrong_is_graded() -> None:
    text = shown(
        peers=[
            peer(faults=4, fault_codes={"sync.withheld": 3, "blob.wrong_bytes": 1}, fault_score=56)
        ]
    )
    assert "56 of 100" in text
    assert "3 x sync.withheld, 1 x blob.wrong_bytes" in text


def test_who_was_disconnected_is_named_with_its_reason_and_for_how_long() -> None:
    out = schema.ShutOut(
        peer_id="12D3", number="AGT-0003", name="coral\x1b[31m", seconds=41,
        fault_codes={"sync.endless": 5},
    )  # fmt: skip
    text = shown(shut_out=[out, schema.ShutOut(peer_id="12D4", seconds=1, fault_codes={})])
    line = next(line for line in text.splitlines() if "AGT-0003" in line)
    assert "41 s" in line
    assert "5 x sync.endless" in line
    assert "\x1b" not in line
    assert "12D4" in text
