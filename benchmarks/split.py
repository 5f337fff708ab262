"""The model split over three members against mlx-lm alone, same weights and dtype, in turn."""

from __future__ import annotations

import json
import statistics
import time

from rich.console import Console

from permesh import schema
from permesh.client import Client
from permesh.demo import MEMBERS, MODEL

from .fleet import Fleet
from .reference import Reference

ROUNDS = 5
MAX_TOKENS = 96
PROMPT = (
    "A beekeeper keeps forty hives at the edge of an orchard of apple and cherry trees. Explain, "
    "step by step, what the bees do for the trees, what the trees do for the bees, and what the "
    "beekeeper must watch for over the four seasons of one year."
)


def measure(fleet: Fleet, console: Console) -> dict[str, float]:
    asker, *servers = fleet.demo.members
    fleet.demo.serve()
    decode, ttft = [], []
    with Reference(fleet.models / MODEL, PROMPT, MAX_TOKENS, ROUNDS + 1) as reference:
        for number in range(ROUNDS + 1):
            ours = _ask(asker.client)
            alone = reference.run()
            if ours[2] != alone.token_ids:
                console.print("[bold]the two answers differ[/]: no figure is worth anything")
                raise SystemExit(1)
            if number == 0:
                continue  # caches, page faults and clocks warm up
            decode.append(ours[0] / alone.decode_tokens_per_s)
            ttft.append(ours[1] / alone.ttft_s)
            console.print(
                f"round {number}: split {ours[0]:.1f} tok/s, first after {ours[1]:.3f} s; "
                f"alone {alone.decode_tokens_per_s:.1f} tok/s, first after {alone.ttft_s:.3f} s"
            )
    return {
        "split_decode": statistics.median(decode),
        "split_ttft": statistics.median(ttft),
        "serve_memory": max(
            server.client.status().engine.weight_bytes / _needed(fleet, layers)
            for server, (_, layers) in zip(servers, MEMBERS[1:], strict=True)
        ),
    }


def _ask(client: Client) -> tuple[float, float, list[int]]:
    """Tokens a second after the first, seconds to the first, the tokens; as a client sees it."""
    route: schema.Route | None = None
    started = time.monotonic()
    first = last = 0.0
    for delta in client.chat(
        MODEL, [{"role": "user", "content": PROMPT}], max_tokens=MAX_TOKENS, temperature=0.0,
        route="mesh",
    ):  # fmt: skip
        if delta.text:
            last = time.monotonic()
            first = first or last
        route = delta.route or route
    assert route is not None
    return (len(route.token_ids) - 1) / (last - first), first - started, route.token_ids


def _needed(fleet: Fleet, layers: str) -> int:
    """Bytes of float32 that the layers' own parameters take, from the model's configuration."""
    config = json.loads((fleet.models / MODEL / "config.json").read_text())
    hidden: int = config["hidden_size"]
    inner: int = config["intermediate_size"]
    heads: int = config["num_attention_heads"]
    kv_heads: int = config["num_key_value_heads"]
    head: int = config.get("head_dim") or hidden // heads
    attention = 2 * hidden * heads * head + 2 * hidden * kv_heads * head
    one = attention + 3 * hidden * inner + 2 * hidden
    first, last = (int(part) for part in layers.split(":"))
    return 4 * one * (last - first)
