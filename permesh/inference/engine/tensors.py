"""Values between layers as bytes, and bytes from elsewhere as values that can be trusted.

Owns the `tensors` field of the protocol. Must never run a model. Bytes come from other members:
their shapes are compared with what the examined architecture passes at that boundary, and numbers
that are not finite are refused, since one would spoil a session's caches for good.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from permesh.errors import Refused
from permesh.inference.engine.protocol import MAX_FORWARD_TOKENS, MAX_TENSORS
from permesh.inference.engine.split import SEQUENCE, Template, Value

BF16 = "bfloat16"
FLOATS = {"float32": mx.float32, "float16": mx.float16, BF16: mx.bfloat16}
INTEGERS = {"int32": mx.int32, "uint32": mx.uint32, "int64": mx.int64, "uint8": mx.uint8}
# How numpy sees them; it has no bfloat16, whose bits it takes for integers.
CARRIERS = {name: np.dtype(name).newbyteorder("<") for name in (*FLOATS, *INTEGERS) if name != BF16}
CARRIERS[BF16] = np.dtype("<u2")
BFLOAT16_EXPONENT = 0x7F80  # all ones: infinity or not a number


def dtype_name(dtype: mx.Dtype) -> str:
    return str(dtype).rpartition(".")[2]


def pack(value: Value, template: Template) -> tuple[list[list[Any]], list[memoryview]]:
    """The `tensors` field and the bytes of a value; waits until it is computed."""
    tensors, buffers = [], []
    for part in template.parts(value):
        name = dtype_name(part.dtype)
        array: Any = mx.contiguous(part)
        if name == BF16:
            array = array.view(mx.uint16)
        tensors.append([name, list(part.shape)])
        buffers.append(memoryview(array).cast("B"))
    return tensors, buffers


def unpack(
    tensors: Any, payload: memoryview, template: Template, compute: mx.Dtype | None
) -> tuple[Value, int]:
    """A value and its number of positions, from another engine's bytes; raises ``Refused``.

    Floats become ``compute``, or the template's type where that is None.
    """
    shapes, dtypes = template.array_shapes(), template.array_dtypes()
    listed = isinstance(tensors, list) and all(_is_pair(entry) for entry in tensors)
    if not listed or len(tensors) != len(shapes) or len(tensors) > MAX_TENSORS:
        raise _wrong("shape", f"{len(shapes)} tensors belong there")
    parts, positions, at = [], 0, 0
    for (name, shape), expected, dtype in zip(tensors, shapes, dtypes, strict=True):
        positions = _match(shape, expected, positions)
        array = _array(name, shape, dtype, payload[at:])
        at += array.nbytes
        parts.append(_to_mlx(array, name, dtype, compute))
    if at != len(payload):
        raise _wrong("length", f"{at} bytes belong there, and {len(payload)} came")
    return template.build(parts), positions


def _is_pair(entry: Any) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and isinstance(entry[1], list)
        and all(isinstance(size, int) and not isinstance(size, bool) for size in entry[1])
    )


def _match(shape: list[int], expected: tuple[int, ...], positions: int) -> int:
    """The number of positions in a shape that is as expected; 0 is not known yet."""
    fits = len(shape) == len(expected)
    for size, wanted in zip(shape, expected, strict=False):
        if wanted == SEQUENCE:
            positions = positions or size
            wanted = positions
        fits = fits and size == wanted
    if not fits or not 0 <= positions <= MAX_FORWARD_TOKENS or 0 in shape:
        described = ["n" if size == SEQUENCE else size for size in expected]
        raise _wrong("shape", f"it has the shape {shape}, and {described} belongs there")
    return positions


def _array(name: str, shape: list[int], dtype: mx.Dtype, rest: memoryview) -> np.ndarray:
    """A view of the first tensor in ``rest``, its type and numbers checked."""
    floating = mx.issubdtype(dtype, mx.floating)
    if name not in (FLOATS if floating else INTEGERS) or (not floating and INTEGERS[name] != dtype):
        raise _wrong("dtype", f"its type is {name[:20]!r}")
    carrier = CARRIERS[name]
    count = int(np.prod(shape, dtype=np.int64))
    if count * carrier.itemsize > len(rest):
        raise _wrong("length", "it ends too early")
    array = np.frombuffer(rest, dtype=carrier, count=count).reshape(shape)
    if name == BF16:
        finite = not np.any((array & BFLOAT16_EXPONENT) == BFLOAT16_EXPONENT)
    else:
        finite = not floating or bool(np.isfinite(array).all())
    if not finite:
        raise _wrong("not_finite", "it has numbers that are not finite")
    return array


def _to_mlx(array: np.ndarray, name: str, dtype: mx.Dtype, compute: mx.Dtype | None) -> mx.array:
    tensor = mx.array(array)
    if name == BF16:
        tensor = tensor.view(mx.bfloat16)
    if not mx.issubdtype(dtype, mx.floating):
        return tensor
    wanted = compute or dtype
    return tensor if tensor.dtype == wanted else tensor.astype(wanted)


def _wrong(what: str, why: str) -> Refused:
    return Refused(f"activation.{what}", f"The activation does not fit this stage: {why}.")
