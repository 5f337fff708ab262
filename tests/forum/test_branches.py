"""Of a chain that forked, what leads to the chosen record and what follows it stands."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permesh.forum.branches import Branch, Link, choose


def links(text: str) -> list[Link]:
    """``"a1 b2<a1"``: a record is a letter and its seq; ``<`` names what it follows, if that is
    not the same letter at the place before."""
    found = []
    for one in text.split():
        name, _, prev = one.partition("<")
        seq = int(name[1:])
        found.append(Link(seq, name.encode(), (prev or f"{name[0]}{seq - 1}").encode()))
    return found


def names(branch: Branch) -> set[str]:
    return {one.decode() for one in branch.standing}


@pytest.mark.parametrize(
    ("chain", "chosen", "standing", "forked"),
    [
        # a owner, b whoever copied the home
        ("a3 a4 a5 b4<a3 b5", "a5", "a3 a4 a5", False),
        ("a3 a4 a5 b4<a3 b5", "a3", "a3", True),
        ("a3 a4 a5 b4<a3 b5", "b4", "a3 b4 b5", False),
        ("a3 a4 b4<a3 a5 a6 c6<a5", "a4", "a3 a4 a5", True),
        # both at the first place of all
        ("a0 b0 b1", "a0", "a0", False),
        # holes: what cannot be traced stands, unless another is at its place
        ("a3 b3 a6", "a3", "a3 a6", False),
        ("a3 b3 a6 b6", "a3", "a3", False),
        ("a3 b3 a6 a7 b7<b6", "a3", "a3 a6", False),
        ("a3 b3 a6 b6 b7 a7", "a3", "a3", False),
        ("a3 b3 a8 a9", "a9", "a8 a9", False),
        ("a3 b3 a8 a9 b9<b8", "a9", "a8 a9", False),
        # the chosen one is not here
        ("a3 b3 a4 b4 a7", "c9", "a7", False),
        ("a4<c3 a5", "c3", "a4 a5", False),
    ],
)
def test_what_stands(chain: str, chosen: str, standing: str, forked: bool) -> None:
    found = choose(links(chain), chosen.encode())
    assert (names(found), found.forked) == (set(standing.split()), forked)


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_at_every_place_one_record_stands_at_most_in_any_order(seed: int, size: int) -> None:
    rng = Random(seed)
    made = [Link(0, b"0", b"")]
    for number in range(1, size):
        before = rng.choice(made)
        made.append(Link(before.seq + 1, str(number).encode(), before.id))
    chosen = rng.choice(made).id
    here = [link for link in made if rng.random() < 0.8]
    found = choose(here, chosen)
    seqs = [link.seq for link in here if link.id in found.standing]
    assert len(seqs) == len(set(seqs))
    assert chosen in found.standing or chosen not in {link.id for link in here}
    assert choose(rng.sample(here, len(here)), chosen) == found


def test_a_chain_of_100_000_needs_no_recursion() -> None:
    chain = [Link(seq, seq.to_bytes(4, "big"), (seq - 1).to_bytes(4, "big"))
             for seq in range(1, 100_000)]  # fmt: skip
    assert len(choose(chain, chain[50_000].id).standing) == len(chain)
