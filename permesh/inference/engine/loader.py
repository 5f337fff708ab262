"""A model in memory, as much of it as is asked for.

Owns reading, casting and counting weights. Must never know sessions or sockets.

The model is built lazily, so a layer's weights are read when the layer is held and not before. On
a CPU, held layers become dense float32, since only that reaches the BLAS (`float32` decodes 9
times as fast as packed weights in float16 here); on a GPU they stay as stored. Layers are cast one
at a time: the model's own `set_dtype` would touch those that are not held.

`python -m permesh.inference.engine.loader FOLDER` prints what a freshly fetched model is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import psutil
from mlx.utils import tree_flatten
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.utils import dequantize_model, load_model, load_tokenizer

from permesh.errors import PermeshError
from permesh.inference import catalogue
from permesh.inference.engine.protocol import MAX_SESSION_TOKENS
from permesh.inference.engine.split import Anatomy, Layer, Stage, examine, install, list_places

# Dense weights may take this share of the memory that is free; beyond it they stay packed, which
# is slow and fits.
DENSE_SHARE = 0.7


def on_cpu() -> bool:
    return bool(mx.default_device() == mx.Device(mx.cpu))


def load_lazily(folder: Path) -> tuple[Layer, dict[str, Any]]:
    """The model with no weight read yet; raises ``PermeshError`` for a folder that is not whole."""
    catalogue.check_folder(folder)
    try:
        return load_model(folder, lazy=True)
    except Exception as error:
        # mlx-lm builds the model from a config that anybody may have written: whatever it raises
        # is the config's fault.
        why = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise PermeshError(
            "model.config",
            f"mlx-lm cannot build the model in {folder}: {why}",
            "Choose a model in mlx-lm's format.",
        ) from error


def context_of(config: dict[str, Any]) -> int:
    """How many positions the model was made for, as far as it says."""
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            stated = part.get("max_position_embeddings")
            if isinstance(stated, int) and stated > 0:
                return min(stated, MAX_SESSION_TOKENS)
    return MAX_SESSION_TOKENS


@dataclass(slots=True, eq=False)
class LoadedModel:
    """One revision's model and what of it is held."""

    folder: Path
    revision: str
    model: Layer
    config: dict[str, Any]
    held: set[int] = field(default_factory=set)
    ends: bool = False
    weight_bytes: int = 0  # measured: what MLX allocated for what is held
    dense: bool | None = None
    _anatomy: Anatomy | None = None
    _tokenizer: TokenizerWrapper | None = None
    _stages: dict[tuple[int, int], Stage] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> LoadedModel:
        revision = catalogue.read_card(folder).revision
        model, config = load_lazily(folder)
        return cls(folder, revision, model, config)

    @property
    def layers(self) -> int:
        return len(self.model.layers)

    @property
    def hidden_size(self) -> int:
        """Width of what passes between layers; 0 where a config does not say."""
        for part in (self.config, self.config.get("text_config")):
            for key in ("hidden_size", "n_embd", "d_model"):
                if isinstance(part, dict) and isinstance(part.get(key), int):
                    return int(part[key])
        return 0

    @property
    def dtype(self) -> str:
        """What is computed in: float32 on a CPU, else as the model's weights are."""
        if on_cpu():
            return "float32"
        first: Any = tree_flatten(self.model.layers[0].parameters())
        floats = [str(a.dtype) for _, a in first if mx.issubdtype(a.dtype, mx.floating)]
        return floats[0].rpartition(".")[2]

    def check_whole(self) -> None:
        """Raise ``layers.not_held`` unless all of the model is here."""
        if not self.ends or len(self.held) < self.layers:
            raise PermeshError(
                "layers.not_held", "Not all of the model is loaded here.", http_status=409
            )

    @property
    def context(self) -> int:
        return context_of(self.config)

    def examine(self) -> Anatomy:
        """How the model is built, found out once; raises ``model.cannot_split``."""
        if self._anatomy is None:
            self._anatomy = examine(self.model)
        return self._anatomy

    def read_tokenizer(self) -> TokenizerWrapper:
        """The model's tokenizer, read once."""
        if self._tokenizer is None:
            self._tokenizer = read_tokenizer(self.folder, self.config)
        return self._tokenizer

    def hold(self, first: int, last: int, ends: bool) -> None:
        """Read and cast layers ``[first, last)`` and, with ``ends``, all that is no layer."""
        check_span(first, last, self.layers, empty=ends)
        new = [number for number in range(first, last) if number not in self.held]
        whole = len(self.held) + len(new) == self.layers
        ends = ends and not self.ends
        if not whole:
            self.examine()  # one that cannot be split is refused before anything is read
        self._choose_density(new, ends)
        before = mx.get_active_memory()
        try:
            for number in new:
                prepare(self.model.layers[number], dense=bool(self.dense))
            if ends:
                with self._without_layers():
                    prepare(self.model, dense=bool(self.dense))
        except RuntimeError as error:
            raise PermeshError(
                "model.unreadable",
                f"The weights in {self.folder} cannot be read: {error}",
                "Fetch it again: permesh model fetch NAME",
            ) from error
        finally:
            mx.clear_cache()
        self.weight_bytes += mx.get_active_memory() - before
        self.held.update(new)
        self.ends = self.ends or ends

    def stage(self, first: int, last: int) -> Stage:
        """The runnable stage of held layers ``[first, last)``."""
        check_span(first, last, self.layers)
        if not self.held.issuperset(range(first, last)):
            raise PermeshError(
                "layers.not_held",
                f"Layers {first}:{last} are not loaded here.",
                "Serve them first.",
                http_status=409,
            )
        if (first, last) not in self._stages:
            self._stages[first, last] = Stage(self.model, self.examine(), first, last)
        return self._stages[first, last]

    def needed_bytes(self) -> int:
        """What the held weights take by their shapes alone."""
        return self._bytes(sorted(self.held), self.ends, _stored_bytes)

    def bytes_when_whole(self) -> int:
        """What all of the model would take, as it is held on this machine."""
        count = _dense_bytes if on_cpu() else _stored_bytes
        return self._bytes(list(range(self.layers)), True, count)

    def use_anatomy(self, anatomy: Anatomy) -> None:
        """Run other things than the model's own layers: for the self-test alone."""
        self._anatomy = anatomy

    def spans(self) -> list[list[int]]:
        """The held layers as runs ``[first, last]``."""
        runs: list[list[int]] = []
        for number in sorted(self.held):
            if runs and runs[-1][1] == number:
                runs[-1][1] = number + 1
            else:
                runs.append([number, number + 1])
        return runs

    def _choose_density(self, new: list[int], ends: bool) -> None:
        free = psutil.virtual_memory().available
        dense = self._bytes(new, ends, _dense_bytes)
        if self.dense is None:
            self.dense = on_cpu() and dense <= DENSE_SHARE * free
        needed = dense if self.dense else self._bytes(new, ends, _stored_bytes)
        if on_cpu() and needed > free:
            raise PermeshError(
                "model.too_large",
                f"These layers need {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free.",
                "Serve fewer layers.",
            )

    def _bytes(self, layers: list[int], ends: bool, count: Callable[[Layer], int]) -> int:
        total = sum(count(self.model.layers[number]) for number in layers)
        if ends:
            with self._without_layers():
                total += count(self.model)
        return total

    @contextmanager
    def _without_layers(self) -> Iterator[None]:
        """While inside, the model's parameters are those of its ends alone."""
        layers = list(self.model.layers)
        places = list_places(self.model, layers)
        install(places, [])
        try:
            yield
        finally:
            install(places, layers)


def prepare(module: Layer, *, dense: bool) -> None:
    """Read a module's weights, and on a CPU make them float32, unpacked if ``dense``."""
    if on_cpu():
        module.set_dtype(mx.float32)  # the scales too, so that unpacking rounds in float32
        if dense:
            dequantize_model(module)
            module.set_dtype(mx.float32)
    mx.eval(module.parameters())


def read_tokenizer(folder: Path, config: dict[str, Any]) -> TokenizerWrapper:
    read: Any = load_tokenizer  # unannotated
    try:
        tokenizer: TokenizerWrapper = read(
            folder, {"trust_remote_code": False}, eos_token_ids=config.get("eos_token_id")
        )
        return tokenizer
    except Exception as error:
        # As for the model: whatever transformers raises, the folder's files are at fault.
        raise PermeshError(
            "model.config",
            f"The tokenizer in {folder} cannot be read: {type(error).__name__}: {error}",
            "Choose a model in mlx-lm's format.",
        ) from error


def check_span(first: Any, last: Any, layers: int, *, empty: bool = False) -> None:
    """Raise ``layers.out_of_range`` for what is no span of a model with so many layers."""
    integers = all(
        isinstance(value, int) and not isinstance(value, bool) for value in (first, last)
    )
    if not integers or not 0 <= first <= last <= layers or (first == last and not empty):
        raise PermeshError(
            "layers.out_of_range",
            f"Layers {first}:{last} do not exist in a model with {layers} layers.",
            f"Choose a span within 0:{layers}.",
        )


def _stored_bytes(module: Layer) -> int:
    leaves: Any = tree_flatten(module.parameters())
    return sum(array.nbytes for _, array in leaves)


def _dense_bytes(module: Layer) -> int:
    """Bytes of the module's weights as float32, packed ones unpacked."""
    total = 0
    for _, part in module.named_modules():
        packed = "scales" in part and hasattr(part, "bits")
        for name, array in part.items():
            if not isinstance(array, mx.array):
                continue
            if packed and name == "weight":
                total += array.nbytes * 8 // part.bits * 4
            elif not (packed and name in ("scales", "biases")):
                total += array.size * 4
    return total


def main(arguments: list[str]) -> int:
    """Say what a folder holds; exit 1 with the reason if mlx-lm cannot use it."""
    folder = Path(arguments[0])
    try:
        model, config = load_lazily(folder)
        read_tokenizer(folder, config)
    except PermeshError as error:
        print(json.dumps({"code": error.code, "message": error.message, "remedy": error.remedy}))
        return 1
    print(json.dumps({"layers": len(model.layers), "context": context_of(config)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
