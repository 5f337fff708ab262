"""The tree that the admission log is hashed into, and the paths that are shown from it.

That its hashes are those of RFC 6962 is shown in test_vectors.py.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permesh.errors import Refused
from permesh.identity.merkle import MAX_PATH, Path, Tree
from permesh.records import MAX_UINT, pack, unpack

from .hostile import found_at, others, places, put_at, trees
from .people import seed

LEAVES = [b"leaf %d" % number for number in range(1, 12)]


def grown(size: int, leaves: list[bytes] = LEAVES) -> Tree:
    tree = Tree()
    for leaf in leaves[:size]:
        tree.append(leaf)
    return tree


def refused(action: Callable[[], Any]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    assert caught.value.message
    return caught.value.code


# -- the tree --------------------------------------------------------------------------------------


def test_a_leafs_index_counts_from_one() -> None:
    tree = Tree()
    assert [tree.append(leaf) for leaf in LEAVES[:3]] == [1, 2, 3]
    assert tree.size == 3


@pytest.mark.parametrize("size", range(len(LEAVES) + 1))
def test_after_a_cut_it_is_what_it_was(size: int) -> None:
    tree = grown(len(LEAVES))
    tree.root()  # what it remembers of the larger tree is forgotten too
    tree.cut(size)
    assert (tree.size, tree.root()) == (size, grown(size).root())
    other = LEAVES[:size] + [b"another way"] * 3
    for leaf in other[size:]:
        tree.append(leaf)
    assert tree.root() == grown(size + 3, other).root() != grown(size + 3).root()
    assert tree.root(size) == grown(size).root()


def test_a_cut_forgets_what_was_remembered_of_a_large_tree() -> None:
    """Roots below some width are not remembered, so it takes many leaves to see."""
    leaves = [b"%d" % number for number in range(600)]
    tree = grown(600, leaves)
    tree.root()
    tree.path(1, 600)
    tree.cut(100)
    other = leaves[:100] + [b"other %d" % number for number in range(500)]
    for leaf in other[100:]:
        tree.append(leaf)
    assert tree.root() == grown(600, other).root()
    tree.path(1, 600).verify(leaves[0], tree.root(), 600)


def test_a_cut_beyond_the_end_cuts_nothing() -> None:
    tree = grown(4)
    tree.cut(9)
    assert tree.root() == grown(4).root()


def test_a_copy_grows_apart() -> None:
    tree = grown(5)
    root, copy = tree.root(), tree.copy()
    copy.append(b"only here")
    assert (tree.size, tree.root()) == (5, root)
    assert (copy.size, copy.root(5)) == (6, root)
    tree.cut(2)
    assert copy.root(5) == root
    tree.append(b"only there")
    assert copy.root(5) == root


# -- paths -----------------------------------------------------------------------------------------

TREE = grown(11)
ROOT = TREE.root()


def parts(path: Path) -> tuple[int, int, bytes, tuple[bytes, ...]]:
    return path.index, path.size, path.rule, path.hashes


def test_a_path_reads_back_and_leads_to_the_root() -> None:
    for size in range(1, 12):
        for index in range(1, size + 1):
            path = TREE.path(index, size)
            again = Path.of(unpack(pack(path.fields()), limit=4096))
            assert parts(again) == parts(path)
            again.verify(LEAVES[index - 1], TREE.root(size), size)


def stands(fields: Any, leaf: bytes) -> None:
    """As whoever has a checkpoint of the tree checks a path: its size is the checkpoint's."""
    Path.of(fields).verify(leaf, ROOT, 11)


def test_a_path_that_fits_a_tree_of_another_size_is_refused() -> None:
    """The hashes of the first leaf's path are the same in trees of 11 and 12 leaves."""
    fields = TREE.path(1, 11).fields()
    stands(fields, LEAVES[0])
    fields[1] = 12
    assert refused(lambda: Path.of(fields).verify(LEAVES[0], ROOT, 11)) == "log.path"


def test_a_path_is_of_one_place_in_a_tree_of_its_size() -> None:
    for index in range(1, 12):
        for other in range(14):
            fields = [other, *TREE.path(index, 11).fields()[1:]]
            if other == index:
                stands(fields, LEAVES[index - 1])
            else:
                code = refused(lambda f=fields, i=index: Path.of(f).verify(LEAVES[i - 1], ROOT, 11))
                assert code == "log.path"


def test_a_path_is_of_one_leaf_under_one_root() -> None:
    for index in range(1, 12):
        path = TREE.path(index, 11)
        for wrong in [one for one in LEAVES if one != LEAVES[index - 1]] + [b"", path.hashes[0]]:
            assert (
                refused(lambda path=path, wrong=wrong: path.verify(wrong, ROOT, 11)) == "log.path"
            )
        for root in (TREE.root(10), seed("root"), b"", ROOT[:31], ROOT + b"\0"):
            code = refused(lambda p=path, i=index, r=root: p.verify(LEAVES[i - 1], r, 11))
            assert code == "log.path"


@pytest.mark.parametrize("index", range(1, 12))
def test_no_other_value_in_any_part_is_accepted(index: int) -> None:
    right, leaf = TREE.path(index, 11), LEAVES[index - 1]
    for at in range(4):
        tried = 0
        for other in others(parts(right)[at]):
            fields = [*parts(right)[:at], other, *parts(right)[at + 1 :]]
            fields[3] = list(fields[3])
            code = refused(lambda fields=fields: stands(fields, leaf))
            assert code in ("log.path", "identity.field")
            tried += 1
        assert tried


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_nothing_else_in_any_place_is_accepted(data: st.DataObject) -> None:
    index = data.draw(st.integers(1, 11), "index")
    right = TREE.path(index, 11).fields()
    here = data.draw(st.sampled_from(list(places(right))), "here")
    value = data.draw(trees | st.integers(0, MAX_UINT) | st.binary(min_size=32, max_size=32))
    if (type(value), value) == (type(found_at(right, here)), found_at(right, here)):
        return
    fields = put_at(right, here, value)
    code = refused(lambda: stands(fields, LEAVES[index - 1]))
    assert code in ("log.path", "identity.field")


@settings(deadline=None, max_examples=60)
@given(trees)
def test_garbage_is_no_path(fields: Any) -> None:
    assert refused(lambda: Path.of(fields).verify(b"", ROOT, 11)) in ("log.path", "identity.field")


HASHES = [seed(str(number)) for number in range(MAX_PATH + 1)]


@pytest.mark.parametrize(
    "fields",
    [
        None, 7, "path", b"path", [], [1, 1, b"\0"], [1, 1, b"\0", HASHES[:1], 0],
        [-1, 1, b"\0", HASHES[:1]], [True, 1, b"\0", HASHES[:1]], [1, True, b"\0", HASHES[:1]],
        [1, 2**63, b"\0", HASHES[:1]], ["1", 1, b"\0", HASHES[:1]], [1, None, b"\0", HASHES[:1]],
        [1, 1, b"", []], [1, 1, b"", HASHES[:1]], [1, 1, b"\0\0", HASHES[:1]],
        [1, 1, [0], HASHES[:1]], [1, 1, "\0", HASHES[:1]], [1, 1, b"\0", HASHES[0]],
        [1, 1, b"\0", [HASHES[0][:31]]], [1, 1, b"\0", [HASHES[0] + b"\0"]],
        [1, 1, b"\0", [HASHES[0].hex()]], [1, 1, b"\0", [None]], [1, 1, b"\0", tuple(HASHES[:1])],
        [1, 2**33, bytes(MAX_PATH + 1), HASHES],
    ],
    ids=lambda fields: ascii(fields)[:40],
)  # fmt: skip
def test_what_has_no_form_of_a_path_is_refused(fields: Any) -> None:
    assert refused(lambda: Path.of(fields)) == "identity.field"


@pytest.mark.parametrize(
    ("index", "size"), [(0, 0), (0, 1), (2, 1), (1, 0), (12, 11), (1, 2**63 - 1), (2**62, 2**62)]
)
def test_a_place_outside_of_the_tree_is_refused(index: int, size: int) -> None:
    for length in (1, 2, 5, MAX_PATH):
        fields = [index, size, bytes(length), HASHES[:length]]
        code = refused(lambda fields=fields: Path.of(fields).verify(LEAVES[0], ROOT, 11))
        assert code == "log.path"
