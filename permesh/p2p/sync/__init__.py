"""Reconciliation: how two members find what each lacks, and exchange it.

Owns the two sides of a session as state machines without I/O: each input gives a list of actions
for a driver to carry out in order, and the driver brings back what they asked for. Must never
verify a record: what comes in is passed on in wire form.

The asker names the spaces that it holds with a sum each, so equal stores cost one round trip.
Spaces that differ are gone through one by one, identity first, so that credentials are here
before what they sign. In each:

1. *Heads*, if the answerer has more records: the last one here of each author; the answerer lists
   what is newer. That is all where nothing but new records lack.
2. *Days*: sums by day, of which the answerer names those that differ.
3. *Parts* of those days, sixteen by sixteen down the digits of the ids, as range-based
   reconciliation does (NIP-77, Willow); small parts, and those whose counts differ by more than
   5 %, are listed.
4. What the answerer lacks is told to it, and it wants of that what it holds to be its own.

Who is asked for more than it should be, or told what it did not ask, ends the session with a
fault. What was taken in until then is kept. Every list and number of rounds has a limit.
"""

from .actions import (
    Action,
    FindMissing,
    Finished,
    Offers,
    ReadDays,
    ReadHeads,
    ReadHeld,
    ReadNewer,
    ReadParts,
    ReadSum,
    ReadWires,
    Send,
    TakeIn,
)
from .answerer import Answerer
from .asker import Asker
from .picker import Picker

__all__ = [
    "Action",
    "Answerer",
    "Asker",
    "FindMissing",
    "Finished",
    "Offers",
    "Picker",
    "ReadDays",
    "ReadHeads",
    "ReadHeld",
    "ReadNewer",
    "ReadParts",
    "ReadSum",
    "ReadWires",
    "Send",
    "TakeIn",
]
