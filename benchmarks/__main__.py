"""`make bench [ONLY=name]`: prints a table and writes `build/bench.json` (name → number).

Ratios come from runs taken in turn in one call, so that a machine whose speed drifts does not
decide them; its load is printed beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from permesh.errors import PermeshError

from . import forum, reconcile, roster, split, ten
from .fleet import Fleet

RESULTS = Path("build/bench.json")


@dataclass(frozen=True)
class Target:
    """A figure to reach: ``at_least`` says from which side, ``unit`` is for the reader."""

    name: str
    bound: float
    at_least: bool
    what: str

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


TARGETS = (
    Target("split_decode", 0.85, True, "decode speed, three members over one process"),
    Target("split_ttft", 1.3, False, "time to first token, three members over one process"),
    Target("serve_memory", 1.1, False, "weight bytes held by a server over what its layers need"),
    Target("post_latency_s", 0.3, False, "a post seen by the other two, median seconds"),
    Target("burst_lost", 0, False, "of 500 posts in a burst: lost, or seen twice"),
    Target("sync_diff_s", 1, False, "two stores of 100,000 that differ in 100, equal again"),
    Target("sync_diff_kib", 150, False, "what that takes on the wire, both ways, in KiB"),
    Target("sync_fresh_s", 60, False, "seconds in which a fresh member takes in 100,000 records"),
    Target("sync_fresh_rss_mb", 300, False, "its memory at most, in MB"),
    Target("search_ms", 30, False, "a search over them, the slowest of fourteen"),
    Target("thread_open_s", 0.3, False, "a thread of 10,000: seconds to its first page"),
    Target("burst10_lost", 0, False, "of 1,000 posts by ten daemons: lost, or seen twice"),
    Target("roster_rebuild_s", 15, False, "seconds to fold the roster of 10,000 members"),
    Target("roster_rss_mb", 300, False, "resident memory of a process that holds it, in MB"),
    Target("credential_cold_ms", 2, False, "a member's hello whose credential is new, median ms"),
    Target("credential_warm_ms", 0.05, False, "a member's hello that was seen before, median ms"),
)

Suite = Callable[[Fleet, Console], dict[str, float]]
# Which suite measures which names; they share one fleet of three daemons.
SUITES: tuple[tuple[Suite, tuple[str, ...]], ...] = (
    (forum.measure, ("post_latency_s", "burst_lost")),
    (split.measure, ("split_decode", "split_ttft", "serve_memory")),
)
# What needs no fleet of three, and measures all of its names at once; ONLY may name each whole.
ROSTER = ("roster_rebuild_s", "roster_rss_mb", "credential_cold_ms", "credential_warm_ms")
RECONCILE = (
    "sync_diff_s", "sync_diff_kib", "sync_fresh_s", "sync_fresh_rss_mb", "search_ms",
    "thread_open_s",
)  # fmt: skip
TEN = ("burst10_lost",)
ALONE: dict[str, tuple[Callable[[Console], dict[str, float]], tuple[str, ...]]] = {
    "roster": (roster.measure, ROSTER),
    "reconcile": (reconcile.measure, RECONCILE),
    "ten": (ten.measure, TEN),
}


def main() -> int:
    known = [target.name for target in TARGETS]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("only", nargs="?", choices=[*known, *ALONE], help="one figure alone")
    only = parser.parse_args().only
    console = Console()
    console.print(f"{platform.platform()}, {os.cpu_count()} cores, load before: {_load()}")
    wanted = (ALONE[only][1] if only in ALONE else (only,)) if only else known
    figures: dict[str, float] = {}
    try:
        for measure, names in ALONE.values():
            if set(wanted) & set(names):
                figures.update(measure(console))
        if set(wanted) & {name for _, names in SUITES for name in names}:
            with Fleet(console) as fleet:
                for suite, names in SUITES:
                    if set(wanted) & set(names):
                        figures.update(suite(fleet, console))
    except PermeshError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    _report(console, {name: figures[name] for name in wanted})
    return 0


def _load() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _report(console: Console, figures: dict[str, float]) -> None:
    table = Table(title=f"load now: {_load()}", title_justify="left")
    for heading in ("figure", "measured", "target", "", "what"):
        table.add_column(heading, justify="right" if heading == "measured" else "left")
    for target in TARGETS:
        if target.name in figures:
            value = figures[target.name]
            verdict = "met" if target.met(value) else "[bold]short[/]"
            table.add_row(target.name, f"{value:.3f}", str(target), verdict, target.what)
    console.print(table)
    kept: dict[str, float] = {}
    if RESULTS.is_file():
        kept = json.loads(RESULTS.read_text())
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**kept, **figures}, indent=2, sort_keys=True) + "\n")
    console.print(f"written to {RESULTS}")


if __name__ == "__main__":
    sys.exit(main())
