"""Words, colours and bars: plain functions."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from permesh.tui.help import KEY_HELP
from permesh.tui.layers import bar, cells_for, edges, gaps, ruler
from permesh.tui.names import lookalikes
from permesh.tui.widgets.post_list import PostList
from permesh.tui.words import (
    DARK_COLOURS,
    DAY,
    HOUR,
    LIGHT_COLOURS,
    MINUTE,
    ago,
    colour_of,
    cut,
    emblem,
    fold,
    lasting,
    moment,
    plural,
    short,
    size,
)

from .memory_mesh import NOW, MemoryMesh


@pytest.mark.parametrize(
    ("passed", "words"),
    [
        (-5 * MINUTE, "now"),
        (MINUTE - 1, "now"),
        (MINUTE, "1m"),
        (HOUR - 1, "59m"),
        (3 * HOUR, "3h"),
        (6 * DAY, "6d"),
        (10 * DAY, "2 Mar"),
        (100 * DAY, "2 Dec 2025"),
    ],
)
def test_ago(passed, words):
    assert ago(NOW - passed, NOW) == words


def test_times_that_nobody_can_have_meant():
    assert ago(0, NOW) == "never"
    assert moment(0) == "—"
    assert moment(2**63) == "—"
    assert ago(-(2**63), NOW) == "?"


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (-1, "0s"),
        (8_400, "8s"),
        (41 * MINUTE + 9_000, "41m"),
        (2 * HOUR, "2h"),
        (2 * HOUR + MINUTE, "2h 1m"),
        (2 * DAY + 4 * HOUR, "2d 4h"),
    ],
)
def test_lasting(milliseconds, words):
    assert lasting(milliseconds) == words


def test_sizes_and_counts():
    assert size(1023) == "1023 B"
    assert size(1024) == "1.0 KiB"
    assert size(3 << 40) == "3.0 TiB"
    assert plural(1, "peer") == "1 peer"
    assert plural(2, "reply", "replies") == "2 replies"


def test_short_keeps_both_ends():
    assert short("0123456789abcdef") == "01234567…cdef"
    assert short("0123456789abc") == "0123456789abc"


def test_cut_says_that_it_cut():
    assert cut("abcde", 5) == "abcde"
    assert cut("abcdef", 5) == "abcd…"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("one two three", ["one two", "three"]),
        ("one  two", ["one  two"]),
        ("abcdefghijk lm", ["abcdefgh", "ijk lm"]),
        ("漢字漢字漢字", ["漢字漢字", "漢字"]),
        ("é 漢字 x", ["é 漢字 x"]),
    ],
)
def test_fold(text, lines):
    assert fold(text, 8) == lines


@pytest.mark.parametrize("width", [-3, 0, 1, 2, 7, 64])
def test_nothing_is_lost_in_folds_and_no_line_is_too_wide(width):
    for part in ("x", "漢", "❤\ufe0f", "e\u0301 ", " ", "漢 x", "ab\u200d", "🏳\ufe0f\u200d🌈 "):
        text = part * 300
        lines = fold(text, width)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert all(cell_len(line) <= max(2, width) for line in lines)


def test_a_member_keeps_its_colour():
    agents = [f"0x{at:040x}" for at in range(200)]

    assert {colour_of(agent, True) for agent in agents} == set(DARK_COLOURS)
    assert {colour_of(agent, False) for agent in agents} == set(LIGHT_COLOURS)
    assert colour_of(agents[3], True) == colour_of(agents[3], True)


def test_an_emblem_is_mirrored_and_another_for_another():
    lines = emblem("0x" + "ab" * 20)

    assert [len(line) for line in lines] == [7, 7, 7, 7]
    assert all(line == line[::-1] for line in lines)
    assert len({tuple(emblem(f"0x{at:040x}")) for at in range(200)}) == 200


def test_each_layer_has_whole_cells_when_there_is_room():
    assert cells_for(30, 70) == 60
    assert cells_for(80, 70) == 70
    assert bar(6, 18, 30, 60) == ("·" * 12, "█" * 24, "·" * 24)


def test_bars_of_neighbours_meet():
    for layers in (7, 30, 80, 126):
        cells = cells_for(layers, 50)
        middle = layers // 3
        assert edges(0, middle, layers, cells)[1] == edges(middle, layers, layers, cells)[0]


@pytest.mark.parametrize("span", [(-5, 3), (0, 10**9), (40, 50), (9, 9), (12, 4), (29, 30)])
def test_a_bar_never_leaves_its_place_whatever_was_announced(span):
    for cells in (1, 8, 30, 61):
        before, held, after = bar(*span, 30, cells)
        assert held
        assert len(before + held + after) == cells


def test_ruler_stands_over_its_bar():
    line = ruler(30, 60)

    assert line.endswith("30")
    assert line.index("10") == edges(10, 11, 30, 60)[0]
    assert len(ruler(126, 20)) == 20 + 3


@pytest.mark.parametrize(
    ("spans", "missing"),
    [
        ([], [(1, 29)]),
        ([(1, 29)], []),
        ([(0, 30)], []),
        ([(4, 12), (12, 26)], [(1, 4), (26, 29)]),
        ([(1, 20), (3, 6)], [(20, 29)]),
        ([(12, 29), (1, 6)], [(6, 12)]),
    ],
)
def test_gaps(spans, missing):
    assert gaps(spans, 30) == missing


def test_names_that_look_alike_are_found_and_the_older_one_is_not_blamed():
    mesh = MemoryMesh()
    for number, name in enumerate(("atlas", "at1as", "modern", "modem", "beryl", "\uff41tlas"), 1):
        mesh.add_member(name, f"AGT-{number:04}")
    mesh.add_member("bery1", "", "pending")

    found = lookalikes(mesh.member_list.values())

    assert {mesh.member_list[agent].name: name for agent, name in found.items()} == {
        "at1as": "atlas", "\uff41tlas": "atlas", "modem": "modern", "bery1": "beryl",
    }  # fmt: skip


def test_help_names_every_key_of_a_post():
    told = {key for heading, keys in KEY_HELP if heading == "Posts" for key, _ in keys}
    told = {key for entry in told for key in entry.split()}
    keys = {
        {"plus": "+"}.get(binding.key, binding.key)
        for binding in PostList.BINDINGS
        if binding.action.startswith("want") and "hidden" not in binding.action
    }

    assert keys <= told
