"""How the commands print: JSON for programs, tables and cards for people.

Owns every place where text that another member wrote reaches the terminal, and cleans it there.
Must never fetch anything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click
from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from permesh import schema
from permesh.display import clean_line

PIPED_WIDTH = 200  # columns, where no terminal says how many there are
SHORT_ID = 8  # hex digits of an id that are shown; any unique prefix is accepted
CARD_WIDTH = 88  # a hash and its label; narrower terminals fold it
NOTHING = "-"


def console(*, stderr: bool = False) -> Console:
    """Without markup or emoji codes: '[red]' in a post is five characters."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream,
        width=None if stream.isatty() else PIPED_WIDTH,
        markup=False,
        emoji=False,
        highlight=False,
    )


def print_json(value: BaseModel | dict[str, Any]) -> None:
    """One object, on one line when a program reads it."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    click.echo(json.dumps(plain, indent=2 if sys.stdout.isatty() else None))


def when(unix_ms: int) -> str:
    """Local time to the minute; a dash for never."""
    if unix_ms <= 0:
        return NOTHING
    try:
        moment = datetime.fromtimestamp(unix_ms / 1000).astimezone()
    except (ValueError, OverflowError, OSError):
        return "?"  # a member may claim any date
    return moment.strftime("%Y-%m-%d %H:%M")


def size(number: int) -> str:
    """Bytes in the unit that keeps them below a thousand."""
    value, unit = float(number), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def layers(first: int, last: int) -> str:
    return f"{first} to {last - 1}" if last > first else NOTHING


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()
) -> Table:
    made = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        justify = "right" if heading in right else "left"
        made.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        made.add_row(*(Text(clean_line(cell)) for cell in row))
    return made


def show_list(items: Table, nothing: str) -> None:
    """A list, or in words that there is none and what comes next; never headings alone."""
    if items.row_count:
        console().print(items)
    else:
        click.echo(nothing, err=True)


def pairs(rows: Iterable[tuple[str, str]]) -> Table:
    """A label and its value a line."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for label, value in rows:
        grid.add_row(label, Text(clean_line(value)))
    return grid


def card(identity: schema.Identity) -> Panel:
    """The Chitin ID card."""
    number = identity.number or "not admitted yet"
    standing = f"{identity.standing:.2f}"
    if identity.standing_note:
        standing += f" ({identity.standing_note})"
    issued = f"{when(identity.issued_ms)}, epoch {identity.epoch}"
    rotates = f"{when(identity.rotates_ms)}, at the latest {when(identity.expires_ms)}"
    if not identity.issued_ms:
        issued = rotates = "once the daemon runs in a mesh"
    body = pairs(
        [
            ("Agent", number),
            ("Name", identity.name),
            ("Mesh", identity.mesh or "none yet"),
            ("Runtime", identity.runtime),
            ("Human", identity.human or "not admitted yet"),
            ("Admitted", when(identity.admitted_ms) if identity.admitted_ms else "not yet"),
            ("Issued", issued),
            ("Rotates", rotates),
            ("Runtime hash", identity.runtime_hash),
            ("", f"claimed by the member itself; {release(identity.release)}"),
            ("Standing", standing),
            ("Wallet", identity.agent),
            ("Owner", identity.owner),
            ("Peer", identity.peer_id),
        ]
    )
    return Panel(
        body,
        title="Chitin ID",
        title_align="left",
        border_style="cyan",
        width=CARD_WIDTH,
        padding=(1, 2),
    )


def member_state(item: schema.Member) -> str:
    if item.state == "pending" and item.needed > 1:
        return f"pending, {item.approvals} of {item.needed}"
    return item.state


def members(items: Sequence[schema.Member]) -> Table:
    return table(
        ("agent", "name", "state", "by", "vouched by", "admitted", "online", "wallet"),
        (
            (
                item.number or NOTHING,
                item.name,
                member_state(item),
                item.verifier or NOTHING,
                item.vouched_by or NOTHING,
                when(item.admitted_ms),
                "yes" if item.online else "no",
                item.agent,
            )
            for item in items
        ),
    )


def release(state: str) -> str:
    """Whether the mesh knows the claimed release, in words."""
    return {
        "accepted": "a release that the mesh accepts",
        "withdrawn": "a release that the mesh has withdrawn",
    }.get(state, "no release that the mesh has named")


def chronicle(found: schema.Chronicle) -> Table:
    shown = table(
        ("when", "what", "entry", ""),
        (
            (
                when(item.at_ms),
                item.kind,
                str(item.entry) if item.entry else NOTHING,
                item.text,
            )
            for item in found.items
        ),
    )
    shown.title = clean_line(f"{found.number} {found.name}")
    shown.title_justify = "left"
    if found.left_out:
        shown.caption = f"{found.left_out} older rotations are not listed"
    return shown


def proposals(items: Sequence[schema.Proposal]) -> Table:
    return table(
        ("proposal", "kind", "approvals", "what"),
        (
            (
                item.id[:SHORT_ID],
                item.kind,
                f"{len(item.approvals)} of {item.needed}",
                item.about,
            )
            for item in items
        ),
    )


def releases(items: Sequence[schema.Release]) -> Table:
    return table(
        ("version", "accepted", "runtime hash"),
        (
            (item.version, "yes" if item.accepted else "withdrawn", item.runtime_hash)
            for item in items
        ),
    )


def models(items: Sequence[schema.LocalModel]) -> Table:
    def spans(item: schema.LocalModel) -> str:
        held = (
            f"{span.number or span.name} {layers(span.first, span.last)}" for span in item.served
        )
        return ", ".join(held) or NOTHING

    return table(
        ("model", "layers", "size", "here", "can be asked", "served by"),
        (
            (
                item.name,
                str(item.layers),
                size(item.bytes),
                "yes" if item.local else "no",
                "yes" if item.reachable else "no",
                spans(item),
            )
            for item in items
        ),
        right=("layers", "size"),
    )


def _log(log: schema.Log | None) -> list[tuple[str, str]]:
    if log is None:
        return []
    who = f"{log.threshold} of {count(log.registrars, 'registrar')} decide, {log.quorum} cosign"
    entries = "1 entry" if log.size == 1 else f"{log.size} entries"
    rows = [("Log", f"{entries}, {who}, root {log.root[:16]}")]
    if log.contradiction:
        rows.append(("", f"STANDS STILL. {log.contradiction}"))
    return rows


def status(now: schema.Status) -> Iterable[Table]:
    mesh = f"{now.mesh.name} ({now.mesh.state}, {count(now.mesh.members, 'member')})"
    yield pairs(
        [
            ("Member", f"{now.number or 'not admitted yet'} {now.name}"),
            ("Mesh", mesh if now.mesh.state != "none" else "none yet"),
            *([("", now.mesh.detail)] if now.mesh.detail else []),
            ("Running since", f"{when(now.started_ms)}, process {now.pid}, permesh {now.version}"),
            ("Credential", _credential(now.credential)),
            *_log(now.log),
            ("Engine", _engine(now.engine)),
            ("Records", str(now.records)),
            ("Peer", now.peer_id),
            *(("Address", address) for address in now.addresses),
            *(("Refused", f"{times} x {code}") for code, times in sorted(now.refused.items())),
        ]
    )
    if now.peers:
        yield table(
            ("connected", "name", "since", "faults", "address"),
            (
                (peer.number, peer.name, when(peer.connected_ms), str(peer.faults), peer.address)
                for peer in now.peers
            ),
            right=("faults",),
        )
    faulty = [peer for peer in now.peers if peer.fault_codes]
    if faulty:
        yield table(
            ("did wrong", "name", "held against it", "what"),
            (
                (peer.number, peer.name, f"{peer.fault_score} of 100", faults(peer.fault_codes))
                for peer in faulty
            ),
            right=("held against it",),
        )
    if now.shut_out:
        yield table(
            ("disconnected", "name", "for", "what"),
            (
                (one.number or one.peer_id, one.name, f"{one.seconds} s", faults(one.fault_codes))
                for one in now.shut_out
            ),
            right=("for",),
        )
    if now.serving:
        yield table(
            ("serving", "layers", "sessions"),
            (
                (span.model, layers(span.first, span.last), str(span.sessions))
                for span in now.serving
            ),
            right=("sessions",),
        )


def faults(codes: dict[str, int]) -> str:
    """The most frequent first: ``3 x sync.withheld, 1 x blob.wrong_bytes``."""
    ordered = sorted(codes.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{times} x {code}" for code, times in ordered)


def _credential(state: schema.CredentialState | None) -> str:
    if state is None:
        return "none"
    return f"epoch {state.epoch}, renews {when(state.renews_ms)}, ends {when(state.expires_ms)}"


def _engine(engine: schema.Engine) -> str:
    parts = [engine.state, engine.backend, engine.detail]
    if engine.weight_bytes:
        parts.append(f"{size(engine.weight_bytes)} of weights")
    if engine.restarts:
        parts.append(f"restarted {count(engine.restarts, 'time')}")
    return ", ".join(part for part in parts if part)


def route(taken: schema.Route) -> Table:
    return table(
        ("member", "layers", "lane", "sent", "ms", "got to see"),
        (
            (
                f"{stage.number} {stage.name}".strip(),
                layers(stage.first, stage.last),
                stage.lane,
                size(stage.bytes_sent),
                f"{stage.milliseconds:.0f}",
                stage.saw,
            )
            for stage in taken.stages
        ),
        right=("sent", "ms"),
    )
