"""A fast BLAS is found without MLX, and used before it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from permesh.inference.engine import blas


def test_none_found_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(blas, "_on_library_path", lambda _: False)
    report = blas.find_blas()
    assert (report.name, report.fast) == ("reference", False)
    assert "libopenblas0" in report.remedy


def test_what_the_remedy_installs_is_what_the_extra_holds() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    (wanted,) = project["optional-dependencies"]["blas"]
    assert f"'{wanted.partition(';')[0].strip()}'" in blas.REMEDY_X86


def test_the_environments_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(blas, "_on_library_path", lambda _: True)
    (tmp_path / "lib").mkdir()
    library = tmp_path / "lib" / "libmkl_rt.so.3"
    library.touch()
    assert blas.find_blas() == blas.BlasReport("mkl", str(library), fast=True)


def test_one_that_does_not_load_is_said_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "libmkl_rt.so"
    broken.write_bytes(b"not a library")
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    monkeypatch.setattr(blas, "find_blas", lambda: blas.BlasReport("mkl", str(broken), fast=True))
    report = blas.load_blas()
    assert not report.fast
    assert str(broken) in report.remedy


def test_after_mlx_it_is_too_late() -> None:
    pytest.importorskip("mlx.core")
    with pytest.raises(RuntimeError):
        blas.load_blas()


@pytest.mark.skipif(not blas.find_blas().path, reason="no fast BLAS on this machine")
def test_mlx_computes_with_it_and_looking_does_not_import_mlx() -> None:
    program = """
import sys
from permesh.inference.engine.blas import load_blas, find_blas
from permesh.inference import catalogue, fetch, supervisor
find_blas()
assert not any(name.startswith("mlx") for name in sys.modules), "mlx was imported"
report = load_blas()
import mlx.core as mx
mx.eval(mx.ones((64, 64)) @ mx.ones((64, 64)))
maps = open("/proc/self/maps").read()
# MKL loads its kernels at the first product: that they are here shows that it was asked.
assert report.name != "mkl" or "libmkl_intel_thread" in maps or "libmkl_sequential" in maps, maps
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
