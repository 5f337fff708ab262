"""A GGUF file becomes a folder that computes what the file's weights compute, bit for bit alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load
from tokenizers.pre_tokenizers import ByteLevel

from permesh.errors import PermeshError
from permesh.inference import catalogue
from permesh.inference.engine.gguf import convert, unpermute

WIDTH, HEADS, KV_HEADS, LAYERS, INNER = 64, 4, 2, 2, 96
TEMPLATE = "{% for m in messages %}<turn>{{ m['content'] }}<end>{% endfor %}<turn>"


def permute(rows: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to q and k."""
    return (
        rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
        .swapaxes(1, 2)
        .reshape(rows.shape)
    )


def weights() -> dict[str, np.ndarray]:
    """By mlx-lm's names, in float32."""
    rng = np.random.default_rng(5)
    shapes = {"model.embed_tokens.weight": (len(tokens()), WIDTH)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        shapes |= {
            at + "self_attn.q_proj.weight": (WIDTH, WIDTH),
            at + "self_attn.k_proj.weight": (WIDTH // 2, WIDTH),
            at + "self_attn.v_proj.weight": (WIDTH // 2, WIDTH),
            at + "self_attn.o_proj.weight": (WIDTH, WIDTH),
            at + "mlp.gate_proj.weight": (INNER, WIDTH),
            at + "mlp.up_proj.weight": (INNER, WIDTH),
            at + "mlp.down_proj.weight": (WIDTH, INNER),
        }
    made = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    norms = [f"model.layers.{n}.{part}_layernorm.weight" for n in range(LAYERS)
             for part in ("input", "post_attention")]  # fmt: skip
    return made | {name: np.full(WIDTH, 0.75, np.float32) for name in (*norms, "model.norm.weight")}


NAMES = {
    "embed_tokens": "token_embd", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "model.layers": "blk", "model.norm": "output_norm",
}  # fmt: skip


def tokens() -> list[str]:
    return [*sorted(ByteLevel.alphabet()), "he", "hel", "<turn>", "<end>"]


def write(path: Path, kind: GGMLQuantizationType | None, **changes: Any) -> None:
    """A GGUF file of these weights, the matrices packed as ``kind`` (or unpacked again)."""
    writer = GGUFWriter(str(path), changes.get("architecture", "llama"))
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model(changes.get("tokenizer", "gpt2"))
    writer.add_tokenizer_pre(changes.get("pre", "smollm"))
    writer.add_token_list(tokens())
    writer.add_token_types([1] * (len(tokens()) - 2) + [3, 3])
    writer.add_token_merges(["h e", "he l"])
    writer.add_eos_token_id(len(tokens()) - 1)
    writer.add_chat_template(TEMPLATE)
    for name, array in {**weights(), **changes.get("more", {})}.items():
        stem = name.removesuffix(".weight")
        for ours, theirs in NAMES.items():
            stem = stem.replace(ours, theirs)
        stem = stem.removeprefix("model.")
        if stem.endswith("attn_q"):
            array = permute(array, HEADS)
        elif stem.endswith("attn_k"):
            array = permute(array, KV_HEADS)
        if kind is not None and array.ndim == 2:
            packed = quantize(array, kind)
            if changes.get("unpacked"):
                writer.add_tensor(stem + ".weight", dequantize(packed, kind))
            else:
                writer.add_tensor(stem + ".weight", packed, raw_dtype=kind)
        else:
            writer.add_tensor(stem + ".weight", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(folder: Path) -> np.ndarray:
    model, _ = load(str(folder))
    model.set_dtype(mx.float32)
    given = mx.array([[5, 6, 7, 80, 81]])
    return np.array(model(given, cache=make_prompt_cache(model)))


def test_dense_weights_come_through_exactly(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", None)
    convert(tmp_path / "m.gguf", tmp_path / "out")
    loaded: Any = mx.load(str(tmp_path / "out" / "model.safetensors"))
    expected = weights()
    assert loaded.keys() == expected.keys()
    for name, array in expected.items():
        assert np.array_equal(np.array(loaded[name].astype(mx.float32)), array), name


@pytest.mark.parametrize("kind", [GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q8_0])
def test_packed_weights_stay_packed_and_compute_alike(
    tmp_path: Path, kind: GGMLQuantizationType
) -> None:
    write(tmp_path / "dense.gguf", kind, unpacked=True)
    write(tmp_path / "packed.gguf", kind)
    convert(tmp_path / "dense.gguf", tmp_path / "dense")
    convert(tmp_path / "packed.gguf", tmp_path / "packed")
    bits = 4 if kind == GGMLQuantizationType.Q4_1 else 8
    config = json.loads((tmp_path / "packed" / "config.json").read_text())
    assert config["quantization"] == {"group_size": 32, "bits": bits}
    near, far = logits(tmp_path / "dense"), logits(tmp_path / "packed")
    assert np.allclose(near, far, atol=1e-3 * np.abs(near).max())


def test_unpermuting_undoes_permuting() -> None:
    rows = np.arange(64 * 3, dtype=np.float32).reshape(64, 3)
    assert np.array_equal(np.array(unpermute(mx.array(permute(rows, 4)), 4)), rows)


def test_the_tokenizer_and_template_are_rebuilt(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", None)
    convert(tmp_path / "m.gguf", tmp_path / "out")
    _, tokenizer = load(str(tmp_path / "out"))
    ids = tokenizer.encode("hello 123")
    assert tokenizer.convert_ids_to_tokens(ids) == ["hel", "l", "o", "Ġ", "1", "2", "3"]
    assert tokenizer.decode(ids) == "hello 123"
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "he"}], tokenize=False)
    assert chat == "<turn>he<end><turn>"
    assert tokenizer.eos_token_ids == {len(tokens()) - 1}
    assert tokenizer.encode("<end>") == [len(tokens()) - 1]


def test_the_same_file_gives_the_same_revision(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", GGMLQuantizationType.Q4_1)
    revisions = set()
    for name in ("one", "two"):
        convert(tmp_path / "m.gguf", tmp_path / name)
        card = catalogue.write_card(tmp_path / name, name, LAYERS, "test", lambda *_: None)
        revisions.add(card.revision)
    assert len(revisions) == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"architecture": "mamba"}, "llama family"),
        ({"tokenizer": "llama"}, "byte-level"),
        ({"pre": "other"}, "pre-tokenizer 'other'"),
        ({"more": {"rope_freqs.weight": np.ones(8, np.float32)}}, "rope_freqs"),
    ],
)
def test_other_kinds_are_refused(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    write(tmp_path / "m.gguf", None, **changes)
    with pytest.raises(PermeshError, match=why) as refused:
        convert(tmp_path / "m.gguf", tmp_path / "out")
    assert refused.value.code == "model.gguf"


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(PermeshError) as refused:
        convert(tmp_path / "m.gguf", tmp_path / "out")
    assert refused.value.code == "model.gguf"
