"""Founding by several, and papers that strangers check: on real homes, without a daemon."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from click.testing import Result

from permesh import offline
from permesh.async_store import AsyncStore
from permesh.config import Home
from permesh.display import clean_line
from permesh.identity.checkpoint import Vote
from permesh.identity.entry import Approval, Entry, Release
from permesh.identity.export import read_genesis
from permesh.identity.founding import FOUNDER_PREFIX, Founder
from permesh.identity.genesis import Genesis, Invite
from permesh.identity.log import AdmissionLog, Batch
from permesh.identity.person import person_hash
from permesh.identity.roster import BATCH, VOTE
from permesh.identity.signed import SKEW_MS
from permesh.identity.wallet import Wallet
from permesh.membership import Membership
from permesh.records import seal
from permesh.remembered import Secrets
from permesh.store import Store


def mail(name: str) -> str:
    return f"{name}@example.org"


def said(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def failed(result: Result) -> str:
    """The one line on stderr."""
    assert result.exit_code == 1, result.output
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.output
    return result.stderr


@pytest.fixture
def atlas(permesh) -> Callable[..., Result]:
    """The home has an identity."""
    said(permesh("init", "--name", "atlas"))
    return permesh


@pytest.fixture
def founder(elsewhere) -> Callable[..., str]:
    """Makes another home and returns its founder's line."""

    def line(name: str, person: str = "") -> str:
        said(elsewhere(name)("init", "--name", name))
        return said(elsewhere(name)("id", "--founder", "--person", person or mail(name))).strip()

    return line


def create(permesh, *options: str) -> Result:
    return permesh("mesh", "create", "orchard", "--person", mail("atlas"), *options)


def named_by(*lines: str) -> list[str]:
    return [part for line in lines for part in ("--founder", line)]


# -- the founder's line ----------------------------------------------------------------------------


def test_a_founders_line_says_who_it_is(atlas) -> None:
    result = atlas("id", "--founder", "--person", " Atlas@Example.org ")
    [line] = said(result).splitlines()
    assert result.stderr == ""
    card = json.loads(atlas("id", "--json").stdout)
    assert Founder.parse(line) == Founder(
        bytes.fromhex(card["owner"][2:]),
        bytes.fromhex(card["agent"][2:]),
        "atlas",
        person_hash(mail("atlas")),
    )
    assert "example" not in line
    assert said(atlas("id", "--founder", "--person", mail("atlas"))).strip() == line


def test_a_founders_line_needs_a_person_and_an_identity(atlas, elsewhere) -> None:
    assert "--person" in failed(atlas("id", "--founder"))
    for text in ("", " ", "x" * 201, "two\nlines"):
        failed(atlas("id", "--founder", "--person", text))
    nobody = failed(elsewhere("nobody")("id", "--founder", "--person", mail("ann")))
    assert "permesh init --name NAME" in nobody


@pytest.mark.usefixtures("terminal")
def test_a_person_at_a_terminal_is_asked_for_the_name(atlas) -> None:
    result = atlas("id", "--founder", input=mail("atlas") + "\n")
    assert Founder.parse(said(result)).person == person_hash(mail("atlas"))
    assert "What the registrars know you by" in result.stderr


# -- founding --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("others", "options", "threshold"),
    [
        ((), (), 1),
        (("ben",), (), 2),
        (("ben", "cat"), (), 2),
        (("ben", "cat"), ("--threshold", "1"), 1),
        (("ben", "cat"), ("--threshold", "3"), 3),
        (("ben", "cat", "dan"), (), 3),
    ],
    ids=str,
)
def test_a_mesh_is_founded_by_several(atlas, founder, others, options, threshold) -> None:
    result = create(atlas, *named_by(*map(founder, others)), *options)
    words = said(result)
    genesis = read_genesis(json.loads(said(atlas("mesh", "genesis"))))
    assert [one.name for one in genesis.registrars] == ["atlas", *others]
    assert genesis.threshold == threshold
    count = 1 + len(others)
    assert (f"{threshold} of its {count} registrars decide who is let in." in words) == bool(others)
    assert ("If one of them is lost" in words) == (threshold == count > 1)
    assert "You founded orchard. Next: permesh daemon, then permesh mesh invite\n" in words
    assert ("The other founders then run" in words) == bool(others)
    card = json.loads(atlas("id", "--json").stdout)
    assert (card["number"], card["mesh_id"]) == ("AGT-0001", genesis.mesh_id.hex())


def test_each_founder_joins_with_the_invite_as_the_one_that_was_named(
    atlas, founder, elsewhere
) -> None:
    said(create(atlas, *named_by(founder("ben"))))
    paper = said(atlas("mesh", "genesis"))
    invite = Invite(read_genesis(json.loads(paper)), ()).line()
    joined = said(elsewhere("ben")("mesh", "join", invite, "--person", mail("ben")))
    assert joined == "You are one of its founders, and so in already. Next: permesh daemon\n"
    assert json.loads(elsewhere("ben")("id", "--json").stdout)["number"] == "AGT-0002"
    assert said(elsewhere("ben")("mesh", "genesis")) == paper


def test_who_was_not_named_needs_a_registrar(atlas, elsewhere) -> None:
    said(create(atlas))
    invite = Invite(read_genesis(json.loads(said(atlas("mesh", "genesis")))), ()).line()
    said(elsewhere("dan")("init", "--name", "dan"))
    joined = said(elsewhere("dan")("mesh", "join", invite, "--person", mail("dan")))
    assert joined.endswith("lets you in with: permesh members admit dan --person WHO\n")


def test_a_home_that_is_in_a_mesh_prints_no_founders_line(atlas) -> None:
    said(create(atlas))
    line = failed(atlas("id", "--founder", "--person", mail("atlas")))
    assert "This agent belongs to the mesh orchard already." in line
    assert "permesh --home DIR COMMAND" in line


def founds_nothing(permesh, *options: str) -> str:
    """Returns the one line that says why."""
    line = failed(create(permesh, *options))
    assert "belongs to no mesh yet" in failed(permesh("mesh", "genesis"))
    return line


@pytest.mark.parametrize("threshold", ["3", "99999999999999999999"])
def test_a_threshold_that_nobody_reaches_is_refused(atlas, founder, threshold: str) -> None:
    line = founds_nothing(atlas, *named_by(founder("ben")), "--threshold", threshold)
    assert f"{threshold} of 2 registrars cannot decide." in line
    assert "Choose a threshold of 1 to 2" in line
    said(create(atlas))  # nothing stands in the way of doing it right


@pytest.mark.parametrize("threshold", ["0", "-1", "two", "1.5", ""])
def test_a_threshold_that_is_none_is_wrong_usage(atlas, threshold: str) -> None:
    assert create(atlas, "--threshold", threshold).exit_code == 2


def test_more_registrars_than_a_mesh_can_have_are_refused(atlas) -> None:
    lines = [
        Founder(bytes([n, 1] * 10), bytes([n, 2] * 10), f"name-{n}", bytes([n] * 32)).line()
        for n in range(1, 33)
    ]
    assert "at most 32 registrars" in founds_nothing(atlas, *named_by(*lines))
    said(create(atlas, *named_by(*lines[1:])))
    assert len(json.loads(said(atlas("mesh", "genesis")))["registrars"]) == 32


def test_a_founders_line_that_is_mistyped_is_told_so(atlas, founder) -> None:
    line = founder("ben")
    at = len(line) // 2
    other = "A" if line[at] != "A" else "B"
    for wrong in (
        line[:at] + other + line[at + 1 :],
        line[:at] + line[at + 1 :],
        line[:-1],
        line[:-8],
        FOUNDER_PREFIX,
        line + "AAAA",
        line[:at] + " " + line[at:],
        line[:at] + "\u00e9" + line[at:],
    ):
        told = founds_nothing(atlas, *named_by(wrong))
        assert "The founder's line is incomplete or mistyped." in told
        assert f"from '{FOUNDER_PREFIX}' to its end" in told


def test_what_is_no_founders_line_is_told_so(atlas) -> None:
    for wrong in ("", "permesh1:AAAA", "ben", mail("ben"), "\x1b[2J", FOUNDER_PREFIX + "A" * 600):
        told = founds_nothing(atlas, *named_by(wrong))
        assert "This is not a founder's line." in told
        assert "permesh id --founder --person WHO" in told
        assert "\x1b" not in told


def test_blanks_around_a_founders_line_do_not_count(atlas, founder) -> None:
    said(create(atlas, *named_by(f"  {founder('ben')}\n")))


def test_nobody_founds_a_mesh_twice(atlas, founder) -> None:
    ben = founder("ben")
    again = "a key stands in it twice"
    assert again in founds_nothing(atlas, *named_by(ben, ben))
    own = said(atlas("id", "--founder", "--person", mail("other"))).strip()
    assert again in founds_nothing(atlas, *named_by(own))
    twin = founder("twin", mail("BEN"))
    assert "a person is in it twice" in founds_nothing(atlas, *named_by(ben, twin))
    mine = founder("mine", mail("atlas"))
    assert "a person is in it twice" in founds_nothing(atlas, *named_by(mine))


# -- papers ----------------------------------------------------------------------------------------


def run_once(home: Home) -> None:
    """As its daemon does: it makes the first credential."""

    async def main() -> None:
        store = await AsyncStore.open(home.database)
        await Membership.open(store, Secrets.unlock(home, None), offline._now_ms, lambda _: {})
        await store.aclose()

    trio.run(main)


class Papers:
    """Of the home's member, and the genesis of its mesh, in files."""

    def __init__(self, home: Home, permesh, stranger) -> None:
        self.stranger = stranger
        said(permesh("init", "--name", "atlas"))
        said(create(permesh))
        run_once(home)
        self.root = home.root
        self.file, self.genesis = home.root / "atlas.json", home.root / "genesis.json"
        self.file.write_text(said(permesh("id", "--export")))
        self.genesis.write_text(said(permesh("mesh", "genesis")))

    @property
    def document(self) -> dict:
        return json.loads(self.file.read_text())

    def verify(self, *more: str, file: Path | None = None, genesis: Path | None = None) -> Result:
        return self.stranger(
            "verify", str(file or self.file), "--genesis", str(genesis or self.genesis), *more
        )

    def refused(self, **files: Path) -> tuple[str, str]:
        """The code and the line that says why."""
        line = failed(self.verify(**files))
        spoken = self.verify("--json", **files)
        assert failed(spoken) == line
        problem = json.loads(spoken.stdout)["error"]
        assert line == clean_line(f"permesh: {problem['message']} {problem['remedy']}") + "\n"
        assert problem["remedy"]
        return problem["code"], line


@pytest.fixture
def papers(home: Home, permesh, elsewhere) -> Papers:
    return Papers(home, permesh, elsewhere("stranger"))


def test_nobody_without_a_mesh_has_papers(home: Home, permesh) -> None:
    for command in (["mesh", "genesis"], ["id", "--export"]):
        assert "belongs to no mesh yet" in failed(permesh(*command))
    said(permesh("init", "--name", "atlas"))
    for command in (["mesh", "genesis"], ["id", "--export"]):
        assert "permesh mesh create NAME" in failed(permesh(*command))
    assert not home.database.exists()


def test_papers_need_a_credential_and_an_admission(home: Home, atlas, elsewhere) -> None:
    said(create(atlas))
    assert "Run its daemon once: permesh daemon" in failed(atlas("id", "--export"))
    invite = Invite(read_genesis(json.loads(said(atlas("mesh", "genesis")))), ()).line()
    said(elsewhere("dan")("init", "--name", "dan"))
    said(elsewhere("dan")("mesh", "join", invite, "--person", mail("dan")))
    run_once(Home(home.root / "dan"))
    assert "The log does not hold this agent." in failed(elsewhere("dan")("id", "--export"))


def test_a_stranger_without_a_home_finds_papers_valid(papers: Papers) -> None:
    words = said(papers.verify())
    assert words.startswith("Valid: atlas is AGT-0001 of orchard, until 20")
    assert words.endswith(". What came after the export is not known here.\n")
    shown = papers.document
    assert json.loads(said(papers.verify("--json"))) == {
        "valid": True,
        "number": "AGT-0001",
        "name": "atlas",
        "mesh": "orchard",
        "expires_ms": shown["credential"]["expires_ms"],
    }
    assert shown["mesh"]["id"] == json.loads(papers.genesis.read_text())["mesh"]["id"]
    assert not (papers.root / "stranger").exists()


def test_an_altered_paper_is_refused_and_the_place_named(papers: Papers) -> None:
    for part, leaf, value in (
        ("agent", "number", "AGT-0002"),
        ("agent", "name", "birch"),
        ("agent", "person", "00" * 32),
        ("credential", "expires_ms", 2**53),
        ("credential", "runtime_hash", "00" * 32),
        ("mesh", "name", "meadow"),
    ):
        document = papers.document
        document[part][leaf] = value
        altered = papers.root / "altered.json"
        altered.write_text(json.dumps(document))
        code, line = papers.refused(file=altered)
        assert code == "export.altered"
        assert f"'{part}.{leaf}' is not what was signed." in line
    document = json.loads(papers.genesis.read_text())
    document["threshold"] = 2
    altered.write_text(json.dumps(document))
    assert papers.refused(genesis=altered)[0] == "export.altered"


def test_hostile_text_in_a_paper_does_not_reach_the_terminal(papers: Papers) -> None:
    altered = papers.root / "altered.json"
    altered.write_text(json.dumps({**papers.document, "\x1b[2J\nAGT-0001\u202e": 1}))
    code, line = papers.refused(file=altered)
    assert code == "export.altered"
    assert not {"\x1b", "\u202e"} & set(line)


def test_the_genesis_of_another_mesh_makes_nothing_of_it(papers: Papers, elsewhere) -> None:
    said(elsewhere("ben")("init", "--name", "ben"))
    said(create(elsewhere("ben")))  # of the same name
    other = papers.root / "other.json"
    other.write_text(said(elsewhere("ben")("mesh", "genesis")))
    assert papers.refused(genesis=other)[0] == "credential.wrong_mesh"


@pytest.mark.parametrize(
    "content",
    [b"", b"not JSON", b"\xff\xfe", b"{", b'{"type": 1, "type": 1}', b"[" * 10_000],
    ids=lambda content: repr(content[:8]),
)
def test_a_file_that_is_no_json_is_told_so(papers: Papers, content: bytes) -> None:
    wrong = papers.root / "wrong.json"
    wrong.write_bytes(content)
    assert papers.refused(file=wrong)[0] == "export.not_json"
    assert papers.refused(genesis=wrong)[0] == "export.not_json"


@pytest.mark.parametrize("content", [b"null", b"[]", b"1", b'"text"', b"{}"])
def test_json_that_is_no_paper_is_told_so(papers: Papers, content: bytes) -> None:
    wrong = papers.root / "wrong.json"
    wrong.write_bytes(content)
    assert papers.refused(file=wrong)[0] == "export.type"
    assert papers.refused(genesis=wrong)[0] == "export.type"


def test_the_two_files_are_not_taken_for_each_other(papers: Papers) -> None:
    assert papers.refused(file=papers.genesis)[0] == "export.type"
    assert papers.refused(genesis=papers.file)[0] == "export.type"


def test_a_file_that_is_missing_or_too_long_is_told_so(papers: Papers) -> None:
    missing = papers.root / "missing.json"
    for files in ({"file": missing}, {"genesis": missing}):
        code, line = papers.refused(**files)
        assert code == "export.unreadable"
        assert "missing.json cannot be read: No such file or directory." in line
    long = papers.root / "long.json"
    long.write_bytes(papers.file.read_bytes() + b" " * 300_000)
    assert papers.refused(file=long)[0] == "export.too_long"
    assert papers.verify(file=papers.root).exit_code == 2  # a directory
    assert papers.stranger("verify", str(papers.file)).exit_code == 2


def test_papers_expire_with_the_credential(papers: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    expires = papers.document["credential"]["expires_ms"]
    monkeypatch.setattr(offline, "_now_ms", lambda: expires + SKEW_MS)
    said(papers.verify())
    monkeypatch.setattr(offline, "_now_ms", lambda: expires + SKEW_MS + 1000)
    code, line = papers.refused()
    assert code == "credential.expired"
    assert "The credential has expired." in line
    issued = papers.document["credential"]["issued_ms"]
    monkeypatch.setattr(offline, "_now_ms", lambda: issued - SKEW_MS - 1000)
    assert papers.refused()[0] == "credential.not_yet_valid"


# -- a log that contradicts itself -----------------------------------------------------------------


def tear(home: Home, genesis: Genesis) -> Wallet:
    """Make the home's log go on in two ways; returns the wallet that signed both."""
    atlas, ben, cat = (
        Wallet.load(root / "keys" / "agent.json", None)
        for root in (home.root, home.root / "ben", home.root / "cat")
    )
    log, records = AdmissionLog(genesis), []

    def write(author: Wallet, kind: str, body: bytes) -> None:
        place = len(records)  # what a home keeps was checked when it came
        records.append(
            seal(
                mesh=genesis.mesh_id, kind=kind, author=author.address, epoch=1, seq=place,
                prev=bytes(32) if place else b"", created_ms=genesis.created_ms, body=body,
                sign=lambda _: bytes(64),
            )
        )  # fmt: skip

    for version, other in (("0.2.0", ben), ("0.3.0", cat)):
        entry = Entry.of(Release(version, bytes(32), True, 1))
        by = (Approval.make(genesis.mesh_id, entry, 1, one) for one in (atlas, ben))
        entry = entry.approved_by(*by)
        checkpoint = log.checkpoint([entry], 0)
        write(atlas, BATCH, Batch(Vote.make(checkpoint, atlas), (entry,)).encode())
        write(other, VOTE, Vote.make(checkpoint, other).encode())
    store = Store(home.database)
    store.save(records, 1)
    store.close()
    return atlas


def test_a_contradiction_is_shown_to_strangers(home: Home, atlas, founder, elsewhere) -> None:
    assert "belongs to no mesh yet" in failed(atlas("mesh", "contradiction"))
    said(create(atlas, *named_by(founder("ben"), founder("cat"))))
    line = failed(atlas("mesh", "contradiction"))
    assert line == "permesh: The log does not contradict itself. There is nothing to show.\n"
    genesis = home.root / "genesis.json"
    genesis.write_text(said(atlas("mesh", "genesis")))
    both = tear(home, read_genesis(json.loads(genesis.read_text())))
    paper = home.root / "paper.json"
    paper.write_text(said(atlas("mesh", "contradiction")))
    check = ("verify", str(paper), "--genesis", str(genesis))
    stranger = elsewhere("stranger")
    address = "0x" + both.address.hex()
    assert said(stranger(*check)) == (
        f"Valid: the log of orchard goes on in two ways, both signed by {address}\n"
    )
    shown = json.loads(said(stranger(*check, "--json")))
    assert shown == {"valid": True, "mesh": "orchard", "signed_both": [address]}
    document = json.loads(paper.read_text())
    for key, value in (("after_entry", 4), ("signed_both", []), ("ways", document["ways"][::-1])):
        paper.write_text(json.dumps({**document, key: value}))
        line = failed(stranger(*check))
        assert f"'{key}" in line
        assert "is not what was signed" in line
