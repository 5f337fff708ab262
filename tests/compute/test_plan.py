"""The chain finder: a pure search."""

from __future__ import annotations

import itertools
import random

import pytest

from permesh.errors import PermeshError
from permesh.inference.plan import HOP_LAYERS, Capability, Chain, Held, find_chain, name_layers

WHOLE = Capability(30, 30)


def chain(held: list[Held], layers: int = 30, capability: Capability = WHOLE) -> list[tuple]:
    found = find_chain("m", layers, held, capability)
    return [(leg.peer_id, leg.first, leg.last) for leg in found.legs]


def test_two_neighbouring_spans_make_the_demo_s_ring() -> None:
    assert chain([Held("b", 6, 16), Held("c", 16, 26)]) == [("b", 6, 16), ("c", 16, 26)]


def test_the_asker_keeps_the_first_and_the_last_layer_whatever_is_offered() -> None:
    assert chain([Held("b", 0, 30)]) == [("b", 1, 29)]


def test_one_peer_that_can_do_it_all_is_enough() -> None:
    held = [Held("b", 1, 15), Held("c", 15, 29), Held("z", 1, 29)]
    assert chain(held) == [("z", 1, 29)]


def test_a_peer_for_fewer_layers_than_its_hop_costs_is_left_out() -> None:
    assert chain([Held("b", 1, 27), Held("c", 27, 28)]) == [("b", 1, 27)]
    assert chain([Held("b", 1, 25), Held("c", 25, 28)]) == [("b", 1, 25), ("c", 25, 28)]


def test_an_overlap_is_cut_in_the_middle() -> None:
    assert chain([Held("b", 1, 24), Held("c", 6, 29)]) == [("b", 1, 15), ("c", 15, 29)]
    assert chain([Held("b", 1, 10), Held("c", 6, 29)]) == [("b", 1, 10), ("c", 10, 29)]


def test_spans_of_one_peer_that_touch_are_one_leg() -> None:
    assert chain([Held("b", 12, 20), Held("b", 4, 12)]) == [("b", 4, 20)]


def test_the_order_of_offers_and_equal_offers_change_nothing() -> None:
    held = [Held("b", 1, 15), Held("c", 1, 15), Held("d", 15, 29), Held("a", 15, 29)]
    for order in itertools.permutations(held):
        assert chain(list(order)) == [("b", 1, 15), ("a", 15, 29)]


@pytest.mark.parametrize("layers", [4, 12, 30, 61])
def test_where_the_asker_holds_all_any_span_in_the_middle_will_do(layers: int) -> None:
    able = Capability(layers, layers)
    with pytest.raises(PermeshError) as error:
        find_chain("m", layers, [], able)
    assert error.value.message == "No connected member serves layers in the middle of m."
    first, last = map(int, error.value.remedy.rpartition(" ")[2].split(":"))
    assert find_chain("m", layers, [Held("b", first, last)], able).legs


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ([], "Layers 6\N{EN DASH}23 of m are held by no connected member."),
        (
            [Held("b", 6, 12), Held("c", 18, 24)],
            "Layers 12\N{EN DASH}17 of m are held by no connected member.",
        ),
        ([Held("b", 6, 12), Held("c", 13, 24)], "Layer 12 of m is held by no connected member."),
        (
            [Held("b", 8, 12), Held("c", 13, 20)],
            "Layers 6\N{EN DASH}7, 12, 20\N{EN DASH}23 of m are held by no connected member.",
        ),
    ],
)
def test_the_layers_that_nobody_holds_are_named(held: list[Held], words: str) -> None:
    with pytest.raises(PermeshError) as error:
        chain(held, capability=Capability(6, 6))
    assert error.value.code == "route.no_chain"
    assert error.value.message == words
    assert "permesh model serve m --layers" in error.value.remedy


def test_whoever_holds_the_ends_alone_holds_nothing_of_the_middle() -> None:
    with pytest.raises(PermeshError, match="No connected member serves layers in the middle of m"):
        chain([Held("b", 0, 1), Held("c", 29, 30)])


def test_two_layers_are_too_few_for_a_ring() -> None:
    with pytest.raises(PermeshError, match="needs 3"):
        chain([Held("b", 0, 2)], layers=2)


def test_names_of_layers() -> None:
    assert name_layers([3]) == "Layer 3"
    assert name_layers([3, 4, 9]) == "Layers 3\N{EN DASH}4, 9"


def test_random_chains_are_covers_and_none_is_cheaper() -> None:
    """Against every choice of up to three spans, on small models."""
    rng = random.Random(7)
    found_some = 0
    for _ in range(150):
        layers = rng.randint(3, 9)
        capability = Capability(rng.randint(1, layers), rng.randint(1, layers))
        held = []
        for peer in "bcde"[: rng.randint(1, 4)]:
            first = rng.randrange(layers)
            held.append(Held(peer, first, rng.randint(first + 1, layers)))
        best = _cheapest_by_trying(layers, held, capability)
        try:
            found = find_chain("m", layers, held, capability)
        except PermeshError:
            assert best is None
            continue
        found_some += 1
        _check_cover(found, held, capability)
        cost = found.first + layers - found.last + HOP_LAYERS * len(found.legs)
        assert best is not None
        assert cost <= best
    assert found_some > 30


def _check_cover(found: Chain, held: list[Held], capability: Capability) -> None:
    assert 1 <= found.first <= max(1, min(capability.head, found.layers - 2))
    assert found.layers - found.last <= max(1, min(capability.tail, found.layers - 2))
    assert found.last <= found.layers - 1
    for before, after in itertools.pairwise(found.legs):
        assert before.last == after.first
    spans = {span.peer_id: span for span in held}
    for leg in found.legs:
        span = spans[leg.peer_id]
        assert span.first <= leg.first < leg.last <= span.last


def _cheapest_by_trying(layers: int, held: list[Held], capability: Capability) -> int | None:
    head = max(1, min(capability.head, layers - 2))
    tail_from = layers - max(1, min(capability.tail, layers - 2))
    costs = []
    for count in range(1, min(len(held), 4) + 1):
        for path in itertools.permutations(held, count):
            for start in range(1, head + 1):
                end = start
                for span in path:
                    reach = min(span.last, layers - 1)
                    end = reach if span.first <= end < reach else -1
                    if end < 0:
                        break
                if end >= tail_from:
                    costs.append(start + layers - end + HOP_LAYERS * count)
    return min(costs, default=None)
