"""A fast BLAS for MLX on Linux CPUs, found and loaded before MLX is.

Owns which libraries serve and how their threads behave. Must never import MLX: `permesh doctor`
asks here, in the daemon's own process.

MLX's Linux wheel carries the reference BLAS, on which a 64x576x1536 product takes 52 ms; MKL and
OpenBLAS take 2 ms. A library loaded with RTLD_GLOBAL first wins the symbols `cblas_sgemm` & co.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

# What serves, best first: names as found in a Python prefix, then on the system's library path.
# `scipy-openblas32` does not serve (prefixed symbols), `cmeel-openblas` ends in an illegal
# instruction.
PREFIX_PATTERNS = (("mkl", "libmkl_rt.so*"),)
SYSTEM_NAMES = (
    ("mkl", "libmkl_rt.so.3"),
    ("mkl", "libmkl_rt.so.2"),
    ("openblas", "libopenblas.so.0"),
    ("openblas", "libopenblas.so"),
)
# What the extra `blas` holds, by its own name: permesh itself may have come from a folder.
REMEDY_X86 = "Install one: pip install 'mkl>=2025'   (or: apt install libopenblas0)"
REMEDY = "Install one, for example: apt install libopenblas0"


@dataclass(frozen=True, slots=True)
class BlasReport:
    """What does MLX's matrix products on this machine's CPU."""

    name: str  # "mkl", "openblas", "accelerate", "cuda" or "reference"
    path: str  # empty where it comes with MLX
    fast: bool
    remedy: str = ""


def find_blas() -> BlasReport:
    """Look for a fast BLAS without loading it for good or touching MLX."""
    if sys.platform == "darwin":
        return BlasReport("accelerate", "", fast=True)
    for name, pattern in PREFIX_PATTERNS:
        for path in sorted((Path(sys.prefix) / "lib").glob(pattern)):
            return BlasReport(name, str(path), fast=True)
    for name, library in SYSTEM_NAMES:
        if _on_library_path(library):
            return BlasReport(name, library, fast=True)
    remedy = REMEDY_X86 if platform.machine() == "x86_64" else REMEDY
    return BlasReport("reference", "", fast=False, remedy=remedy)


def load_blas() -> BlasReport:
    """Load what `find_blas` found; call it before MLX is imported."""
    if "mlx.core" in sys.modules:
        raise RuntimeError("load_blas() must run before mlx.core is imported")
    report = find_blas()
    if not report.path:
        return report
    _calm_threads()
    try:
        ctypes.CDLL(report.path, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        remedy = f"{report.path} does not load: {error}"
        return BlasReport("reference", "", fast=False, remedy=remedy)
    return report


def _calm_threads() -> None:
    """Keep idle BLAS threads off the cores: other engines on this machine need them.

    OpenMP threads spin for 200 ms after each product by default, which is for ever to a decode
    step. What the user has set stays.
    """
    for key, value in {
        "KMP_BLOCKTIME": "0",
        "OMP_WAIT_POLICY": "PASSIVE",
    }.items():
        os.environ.setdefault(key, value)


def _on_library_path(library: str) -> bool:
    stem = library.removeprefix("lib").split(".so")[0]
    found = ctypes.util.find_library(stem)
    if found == library:
        return True
    return any((Path(place) / library).exists() for place in _library_places())


def _library_places() -> list[str]:
    places = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    machine = platform.machine()
    return [
        *(place for place in places if place),
        f"/usr/lib/{machine}-linux-gnu",
        "/usr/local/lib",
        "/usr/lib64",
    ]
