"""What sums claim, and who is found out: sets only grow, so some claims can be refuted."""

from __future__ import annotations

import pytest

from permesh.p2p import limits
from permesh.p2p.sync import Asker, FindMissing, Finished, Send
from permesh.p2p.sync_messages import Contents, Differing, Parts, Want, encode
from permesh.spaces import SPACE_COMMONS, Part, Sum
from tests.sync.conversation import TODAY, ids_of
from tests.sync.test_sync_rules import asker_at_contents, asker_at_days, sixteen


def at_list(own: Sum, theirs: Sum) -> Asker:
    """An asker that waits for the ids of today."""
    asker = asker_at_days((TODAY, own))
    said = asker.received(encode(Differing(((TODAY, theirs),))))
    assert said == [Send(encode(Parts(SPACE_COMMONS, (Part(TODAY, "", True),))))]
    return asker


def counted(number: int, mark: bytes) -> Sum:
    return Sum(number, mark * 16)


def test_who_claims_to_have_what_lacks_here_and_does_not_is_found_out() -> None:
    """Sets only grow, so who had other ids and no fewer has one that was not here then."""
    for theirs in ((), ids_of(1), ids_of(1, 2)):
        asker = at_list(counted(2, b"o"), counted(2, b"t"))
        asker.received(encode(Contents((theirs,))))
        end = asker.parts([ids_of(1, 2)])
        if len(theirs) == 2:
            assert end == [Finished(fruitless=True)]
        else:
            assert isinstance(end[0], Send)
            assert asker.received(encode(Want(()))) == [Finished(fruitless=True)]


@pytest.mark.parametrize(
    ("own", "theirs", "here"),
    [
        (2, 1, (1, 2)),  # they had fewer, and what they lacked has come to them meanwhile
        (2, 2, (1, 2, 3)),  # what lacked here came meanwhile
        (1, 2, (1, 2)),
    ],
)
def test_what_came_to_either_side_meanwhile_is_nobodys_fault(
    own: int, theirs: int, here: tuple[int, ...]
) -> None:
    asker = at_list(counted(own, b"o"), counted(theirs, b"t"))
    asker.received(encode(Contents((ids_of(*here),))))
    assert asker.parts([ids_of(*here)]) == [Finished()]


def test_a_day_of_which_no_part_differs_is_found_out() -> None:
    asker = asker_at_contents()
    parts = sixteen({"3": 400, "a": 600})
    asker.received(encode(Contents((parts,))))
    assert asker.parts([parts]) == [Finished(fruitless=True)]
    asker = asker_at_contents()
    grown = sixteen({"3": 400, "a": 601})
    asker.received(encode(Contents((grown,))))
    assert asker.parts([grown]) == [Finished()]


def test_a_space_of_which_no_day_differs_is_found_out() -> None:
    day = (TODAY, counted(1, b"o"))
    assert asker_at_days(day).received(encode(Differing(()))) == [Finished(fruitless=True)]
    # A record that has come here since the session began may have been the one that lacked.
    more = (TODAY, counted(2, b"o"))
    assert asker_at_days(more).received(encode(Differing(()))) == [Finished()]


def test_a_list_that_may_be_cut_off_refutes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """So much has come to the first part that the second one did not fit any more."""
    monkeypatch.setattr(limits, "PAGE_IDS", 4)
    asker = asker_at_days((1, counted(1, b"o")), (2, counted(1, b"o")))
    asker.received(encode(Differing(((1, counted(1, b"t")), (2, counted(1, b"t"))))))
    asker.received(encode(Contents((ids_of(1, 2, 3, 4), ()))))
    lacking = ids_of(2, 3, 4)
    assert asker.parts([ids_of(1), ids_of(7)]) == [FindMissing(SPACE_COMMONS, lacking)]
    assert asker.missing([]) == [Finished()]
