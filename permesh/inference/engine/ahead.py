"""Blank input for a computation that is built before its input is there.

MLX runs what Python has built, and building a decode step takes a tenth as long as computing it.
mlx-lm alone hides that by building the next token's step while this one's runs; a stage cannot,
since its next input comes from elsewhere. So it builds on blanks while other members compute, and
writes what arrives into them.

Owns the writing into arrays that MLX holds to be constant, and the question whether that reaches
computations already built. Must never know layers or sessions.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np


class Blanks:
    """Arrays like ``parts``, to be filled once per computation and after the last one is done."""

    def __init__(self, parts: list[mx.array]) -> None:
        carriers = [mx.zeros(part.shape, _carrier(part.dtype)) for part in parts]
        mx.eval(carriers)
        self._views = [np.array(carrier, copy=False) for carrier in carriers]
        self.parts = [
            carrier if carrier.dtype == part.dtype else carrier.view(part.dtype)
            for carrier, part in zip(carriers, parts, strict=True)
        ]

    def fill(self, parts: list[mx.array]) -> None:
        """Write these in; computations built on ``self.parts`` see them when they run."""
        for view, part in zip(self._views, parts, strict=True):
            carrier = _carrier(part.dtype)
            bits = part if carrier == part.dtype else part.view(carrier)
            np.copyto(view, np.array(bits, copy=False), casting="no")


@cache
def writes_arrive() -> bool:
    """Whether this backend computes with what was written after building; tried, not presumed.

    It does where arrays lie in memory that the processor shares (CPU, Metal).
    """
    blanks = Blanks([mx.zeros((4,))])
    doubled: Any = blanks.parts[0] * 2
    blanks.fill([mx.full((4,), 3.0)])
    return bool(mx.all(doubled == 6).item())


def _carrier(dtype: mx.Dtype) -> mx.Dtype:
    """What numpy has for a type's bits: it knows no bfloat16."""
    return mx.uint16 if dtype == mx.bfloat16 else dtype
