"""What the mesh screen says, section by section, as text.

Owns words and bars; the widget owns where they stand. Names and addresses come from other members
and are cleaned here.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from permesh.display import clean_line
from permesh.schema import Engine, LocalModel, Peer, Span, Status

from .layers import bar, cells_for, gaps, ruler
from .words import ago, colour_of, cut, lasting, plural, short, size

MAX_ADDRESSES = 4
MAX_PEERS = 50
MAX_MODELS = 12
MAX_SPANS = 16  # a model
MAX_CONTRADICTION = 1_000  # characters
DIM = "$foreground 50%"

ENGINE_STYLE = {
    "ready": "$success",
    "starting": "$warning",
    "failed": "$error",
    "stopped": "$foreground 50%",
}


def _pair(label: str, value: str | Content, style: str = "") -> Content:
    value = Content.styled(value, style) if isinstance(value, str) else value
    return Content.assemble((f"{label:<11} ", DIM), value)


def _lines(lines: Sequence[Content]) -> Content:
    return Content("\n").join(lines)


def member_section(status: Status, now_ms: int) -> Content:
    """This member in its mesh."""
    mesh = status.mesh
    lines = [
        _pair("mesh", f"{clean_line(mesh.name) or '—'}  {short(mesh.id)}"),
        _pair("state", mesh.state, "$success" if mesh.state == "member" else "$warning"),
    ]
    if mesh.detail:
        lines.append(_pair("", clean_line(mesh.detail), DIM))
    lines += [
        _pair("up", f"{lasting(now_ms - status.started_ms)}, pid {status.pid}"),
        _pair("version", clean_line(status.version)),
        _pair("peer id", status.peer_id),
    ]
    for at, address in enumerate(status.addresses[:MAX_ADDRESSES]):
        shown = address.split("/p2p/")[0]  # the peer id stands above
        lines.append(_pair("listens on" if at == 0 else "", clean_line(shown)))
    if len(status.addresses) > MAX_ADDRESSES:
        lines.append(_pair("", f"and {len(status.addresses) - MAX_ADDRESSES} more", DIM))
    return _lines(lines)


def engine_section(engine: Engine) -> Content:
    """The model's process."""
    state = Content.assemble(("● ", ENGINE_STYLE[engine.state]), engine.state)
    lines = [_pair("engine", state)]
    if engine.backend:
        lines.append(_pair("backend", clean_line(engine.backend)))
    if engine.weight_bytes:
        lines.append(_pair("weights", size(engine.weight_bytes)))
    lines.append(_pair("restarts", str(engine.restarts), "$warning" if engine.restarts else DIM))
    if engine.detail:
        lines.append(_pair("", clean_line(engine.detail), "$error"))
    return _lines(lines)


def records_section(status: Status, now_ms: int) -> Content:
    """What is stored, what was refused, and how long the credential lasts."""
    lines = [_pair("records", f"{status.records:,}")]
    if status.log is not None and status.log.contradiction:
        said = cut(status.log.contradiction, MAX_CONTRADICTION)
        lines.append(_pair("log", clean_line(said), "$error"))
        lines.append(_pair("", "registrars choose with: permesh mesh resolve", DIM))
    credential = status.credential
    if credential is None:
        lines.append(_pair("credential", "none yet", "$warning"))
    elif credential.expires_ms <= now_ms:
        lines.append(_pair("credential", f"epoch {credential.epoch}, lapsed", "$error"))
    else:
        renews = lasting(credential.renews_ms - now_ms)
        lines.append(_pair("credential", f"epoch {credential.epoch}, renews in {renews}"))
    refused = sorted(status.refused.items(), key=lambda item: (-item[1], item[0]))
    if not refused:
        lines.append(_pair("refused", "nothing so far", DIM))
    for at, (code, count) in enumerate(refused[:8]):
        label = "refused" if at == 0 else ""
        words = Content.assemble((f"{count:,} ", "$warning"), clean_line(code))
        lines.append(_pair(label, words))
    return _lines(lines)


def peers_section(peers: Sequence[Peer], now_ms: int, dark: bool) -> Content:
    """Connected members, a line each, and where they are below it."""
    if not peers:
        return Content.styled(
            "Nobody is connected.\nThe daemon keeps dialling the addresses of the invitation.", DIM
        )
    lines = []
    for peer in peers[:MAX_PEERS]:
        faults = (f"  {plural(peer.faults, 'fault')}", "$warning") if peer.faults else ("", "")
        lines.append(
            Content.assemble(
                ("● ", "$success"),
                (clean_line(peer.name) or "?", f"bold {colour_of(peer.agent, dark)}"),
                (f"  {clean_line(peer.number)}", DIM),
                (f"  for {ago(peer.connected_ms, now_ms)}".replace("for now", "just now"), DIM),
                faults,
            )
        )
        lines.append(Content.styled(f"  {clean_line(peer.address.split('/p2p/')[0])}", DIM))
    if len(peers) > MAX_PEERS:
        lines.append(Content.styled(f"and {len(peers) - MAX_PEERS} more", DIM))
    return _lines(lines)


def layers_section(models: Sequence[LocalModel], width: int, now_ms: int, dark: bool) -> Content:
    """Who serves which layers of which model, as bars over a ruler."""
    if not models:
        return Content.styled(
            "No model yet.\nFetch one with: permesh model fetch smollm2-135m", DIM
        )
    parts: list[Content] = []
    for model in models[:MAX_MODELS]:
        parts.extend(_model(model, width, now_ms, dark))
        parts.append(Content(""))
    if len(models) > MAX_MODELS:
        parts.append(Content.styled(f"and {len(models) - MAX_MODELS} more models", DIM))
    return _lines(parts[:-1] if len(models) <= MAX_MODELS else parts)


def _model(model: LocalModel, width: int, now_ms: int, dark: bool) -> list[Content]:
    spans = [span for span in model.served if not span.expires_ms or span.expires_ms > now_ms]
    layers = max([model.layers, 1, *(span.last for span in spans[:MAX_SPANS])])
    layers = min(layers, 10_000)  # a span is another member's word
    label = min(22, max(10, width // 4))
    cells = cells_for(layers, max(8, width - label - len(str(layers)) - 8))
    here = "whole copy here" if model.local else "no copy here"
    state = ("answers", "$success") if model.reachable else ("cannot answer now", "$warning")
    title = Content.assemble(
        (clean_line(model.name), "bold"),
        (f"  {plural(model.layers, 'layer')} · {size(model.bytes)} · {here} · ", DIM),
        state,
    )
    lines = [title.truncate(width, ellipsis=True)]
    if not spans:
        return [*lines, Content.styled("nobody serves layers of it", DIM)]
    lines.append(Content.styled(" " * label + ruler(layers, cells), DIM))
    for span in sorted(spans, key=lambda span: (span.first, span.last, span.agent))[:MAX_SPANS]:
        lines.append(_span(span, layers, cells, label, dark))
    if len(spans) > MAX_SPANS:
        lines.append(Content.styled(f"and {len(spans) - MAX_SPANS} more spans", DIM))
    missing = gaps([(span.first, span.last) for span in spans], layers)
    if missing and not model.local:
        words = ", ".join(f"{first}:{last}" for first, last in missing[:6])
        lines.append(Content.styled(f"nobody serves layers {words}", "$warning"))
    return lines


def _span(span: Span, layers: int, cells: int, label: int, dark: bool) -> Content:
    colour = colour_of(span.agent, dark)
    before, held, after = bar(span.first, span.last, layers, cells)
    name = Content.assemble(
        (clean_line(span.name) or "?", f"bold {colour}"), (f" {clean_line(span.number)}", DIM)
    ).truncate(label - 1, ellipsis=True)
    busy = f" · {span.sessions} now" if span.sessions else ""
    return Content.assemble(
        name,
        " " * (label - name.cell_length),
        (before, "$foreground 25%"),
        (held, colour),
        (after, "$foreground 25%"),
        (f" {span.first}:{span.last}{busy}", DIM),
    )
