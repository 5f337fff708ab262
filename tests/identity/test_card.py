"""What stands on the ID card, and what a member says that it runs."""

import hashlib
from pathlib import Path

import permesh
from permesh.identity.card import address, agent_number, blank_card, fill_card
from permesh.identity.credential import MAX_RUNTIME_BYTES
from permesh.identity.roster import Roster
from permesh.identity.runtime import hash_files, runtime_hash, runtime_name

from .people import START_MS, Person, append, genesis

BLANK = blank_card(name="cleo", agent="0xaa", owner="0xbb", peer_id="12D3")


def test_numbers_and_addresses_as_people_see_them() -> None:
    assert [agent_number(one) for one in (1, 9999, 12345)] == ["AGT-0001", "AGT-9999", "AGT-12345"]
    assert address(bytes(19) + b"\xab") == "0x" + "00" * 19 + "ab"


def test_a_card_before_any_mesh_claims_nothing() -> None:
    assert (BLANK.number, BLANK.mesh, BLANK.epoch, BLANK.session_key) == ("", "", 0, "")
    assert BLANK.standing == 0.0
    assert BLANK.standing_note


def test_a_card_says_what_the_mesh_says() -> None:
    ann, ben, cleo, roster = Person("ann"), Person("ben"), Person("cleo"), Roster(genesis())
    credential = cleo.credential(4)
    asking = fill_card(BLANK, roster, cleo.address, None)
    assert (asking.mesh, asking.mesh_id) == ("reading-room", genesis().mesh_id.hex())
    assert (asking.number, asking.admitted_ms, asking.vouched_by) == ("", 0, "")
    append(roster.log, ann, ann.admits(cleo, START_MS + 5), by=[ben])
    card = fill_card(BLANK, roster, cleo.address, credential)
    assert (card.number, card.admitted_ms, card.epoch) == ("AGT-0003", START_MS + 5, 4)
    assert (card.verifier, card.vouched_by) == ("vouched", "AGT-0001")
    assert (card.issued_ms, card.rotates_ms) == (START_MS, credential.renews_ms)
    assert card.session_key == cleo.key(4).public.hex()


def test_the_runtime_hash_is_of_the_files_that_are_installed() -> None:
    root = Path(permesh.__file__).parent
    names = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    shipped = {one for one in names if "__pycache__" not in one and "/." not in f"/{one}"}
    assert {"py.typed", "tui/permesh.tcss", "identity/runtime.py"} <= shipped
    total = hashlib.sha256(b"permesh/runtime/2\x00")
    for name in sorted(shipped):
        total.update(len(name.encode()).to_bytes(4, "big") + name.encode())
        total.update(hashlib.sha256((root / name).read_bytes()).digest())
    assert hash_files(root) == total.digest()
    assert len(runtime_hash()) == 32


def test_what_a_machine_leaves_among_the_files_does_not_count(tmp_path: Path) -> None:
    def write(name: str, text: str = "x") -> bytes:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return hash_files(tmp_path)

    write("one.py")
    before = write("room/two.tcss")
    for left in ("__pycache__/one.pyc", "room/.DS_Store", ".idea/three.py"):
        assert write(left) == before
    seen = {before, write("one.py", "y"), write("room/three.txt"), write("py.typed", "")}
    assert len(seen) == 4


def test_the_runtime_name_can_stand_in_a_credential() -> None:
    name = runtime_name()
    assert name.startswith(f"permesh/{permesh.__version__} python/3.")
    assert name.isascii()
    assert name.isprintable()
    assert len(name) <= MAX_RUNTIME_BYTES
