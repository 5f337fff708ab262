"""A llama-family GGUF file turned into a folder in mlx-lm's format.

Owns the names, the row order and the tokenizer's rebuilding. Must never download anything.
`python -m permesh.inference.engine.gguf FILE FOLDER` converts, in a process of its own.

The same file gives the same bytes on every machine, whatever the versions of the libraries: the
folder's hash is the model's revision, and members must agree on it. So the safetensors and the
tokenizer's JSON are written here, in sorted order, and by nobody else.

Q4_1, Q4_0 and Q8_0 stay packed (`mx.load` reads them as affine groups of 32); llama.cpp interleaves
the rows of q and k for its rotary embedding, which is undone, also on packed rows.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from permesh.errors import PermeshError

GROUP = 32
# GGUF's name of a pre-tokenizer → what stands before the byte-level split.
PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "smollm": [{"type": "Digits", "individual_digits": True}],
    "gpt-2": [],
}
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
SAFETENSORS_TYPES = {"uint32": "U32", "float16": "F16", "float32": "F32"}


def convert(source: Path, folder: Path) -> None:
    """Write `config.json`, `model.safetensors` and the tokenizer's files into ``folder``.

    Raises ``PermeshError`` (``model.gguf``) for what is not a llama-family GGUF of a known kind.
    """
    arrays: Any
    metadata: Any
    try:
        arrays, metadata = mx.load(str(source), format="gguf", return_metadata=True)
    except (RuntimeError, ValueError) as error:
        raise _refusal(f"{source.name} cannot be read: {error}") from error
    facts = _Facts(metadata)
    weights = {
        name: part for key, array in arrays.items() for name, part in [_place(key, array, facts)]
    }
    config = _config(facts, weights)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", weights)
    _write_json(folder / "config.json", config)
    _write_json(folder / "tokenizer.json", _tokenizer(facts))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(facts))


class _Facts:
    """The file's metadata, typed on the way out."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        self._metadata = metadata
        if self.text("general.architecture") != "llama":
            raise _refusal("only the llama family can be converted from GGUF")

    def has(self, key: str) -> bool:
        return key in self._metadata

    def text(self, key: str) -> str:
        return str(self._get(key))

    def number(self, key: str) -> int:
        return int(self._get(key).item())

    def real(self, key: str) -> float:
        # The shortest decimal that is this float32, so that JSON reads 1e-05 and not 9.99e-06.
        return float(str(np.float32(self._get(key).item())))

    def words(self, key: str) -> list[str]:
        return [str(word) for word in self._get(key)]

    def numbers(self, key: str) -> list[int]:
        return [int(value) for value in self._get(key).tolist()]

    def _get(self, key: str) -> Any:
        try:
            return self._metadata[key]
        except KeyError:
            raise _refusal(f"the GGUF file does not say '{key}'") from None


def _place(key: str, array: mx.array, facts: _Facts) -> tuple[str, np.ndarray]:
    """A tensor's mlx-lm name, and its values in mlx-lm's row order."""
    stem, _, part = key.rpartition(".")
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
    if block and block[2] in BLOCK_NAMES:
        name = f"model.layers.{block[1]}.{BLOCK_NAMES[block[2]]}"
        if block[2] in ("attn_q", "attn_k"):
            heads = facts.number(
                "llama.attention.head_count"
                if block[2] == "attn_q" or not facts.has("llama.attention.head_count_kv")
                else "llama.attention.head_count_kv"
            )
            array = unpermute(array, heads)
    elif stem in NAMES:
        name = NAMES[stem]
    else:
        raise _refusal(f"a tensor named '{key}' is not known here")
    if array.ndim == 1:
        array = _halve_if_exact(array)
    if array.dtype == mx.bfloat16:
        array = array.astype(mx.float32)
    return f"{name}.{part}", np.array(array)


def unpermute(rows: mx.array, heads: int) -> mx.array:
    """Undo llama.cpp's interleaving of each head's rows: (pairs, 2) back to (2, pairs)."""
    count = rows.shape[0]
    if count % (2 * heads):
        raise _refusal(f"{count} rows do not divide into {heads} heads")
    paired = rows.reshape(heads, count // heads // 2, 2, *rows.shape[1:])
    return paired.swapaxes(1, 2).reshape(rows.shape)


def _halve_if_exact(array: mx.array) -> mx.array:
    """Norms that came from bfloat16 fit float16, as the packed scales have it."""
    half = array.astype(mx.float16)
    same = mx.array_equal(half.astype(mx.float32), array.astype(mx.float32)).item()
    return half if same else array


def _config(facts: _Facts, weights: dict[str, np.ndarray]) -> dict[str, Any]:
    heads = facts.number("llama.attention.head_count")
    hidden = facts.number("llama.embedding_length")
    config: dict[str, Any] = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": facts.number("llama.feed_forward_length"),
        "num_hidden_layers": facts.number("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": (
            facts.number("llama.attention.head_count_kv")
            if facts.has("llama.attention.head_count_kv")
            else heads
        ),
        "max_position_embeddings": facts.number("llama.context_length"),
        "rms_norm_eps": facts.real("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": (
            facts.real("llama.rope.freq_base") if facts.has("llama.rope.freq_base") else 10000.0
        ),
        "vocab_size": len(facts.words("tokenizer.ggml.tokens")),
        "tie_word_embeddings": "lm_head.weight" not in weights,
        "eos_token_id": facts.number("tokenizer.ggml.eos_token_id"),
    }
    if facts.has("llama.rope.dimension_count"):
        config["head_dim"] = facts.number("llama.rope.dimension_count")
    quantization = _quantization(weights)
    if quantization:
        config["quantization"] = quantization
    return config


def _quantization(weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """mlx-lm's description of the packed tensors: bits that differ are named one by one."""
    bits = {
        name.removesuffix(".scales"): 32
        * weights[name.removesuffix("scales") + "weight"].shape[-1]
        // (GROUP * scales.shape[-1])
        for name, scales in weights.items()
        if name.endswith(".scales")
    }
    if not bits:
        return {}
    common = max(sorted(set(bits.values())), key=list(bits.values()).count)
    described: dict[str, Any] = {"group_size": GROUP, "bits": common}
    for module, count in sorted(bits.items()):
        if count != common:
            described[module] = {"group_size": GROUP, "bits": count}
    return described


def _tokenizer(facts: _Facts) -> dict[str, Any]:
    """The byte-level BPE as `tokenizers` reads it; GPT-2's kind is the only one here."""
    if facts.text("tokenizer.ggml.model") != "gpt2":
        raise _refusal("its tokenizer is not byte-level BPE")
    before = PRE_TOKENIZERS.get(facts.text("tokenizer.ggml.pre"))
    if before is None:
        raise _refusal(f"its pre-tokenizer '{facts.text('tokenizer.ggml.pre')}' is not known here")
    tokens = facts.words("tokenizer.ggml.tokens")
    kinds = facts.numbers("tokenizer.ggml.token_type")
    split = {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True,
    }  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number, "content": token, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": kind == 3,
            }
            for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind in (3, 4)  # control, user-defined
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*before, split]},
        "post_processor": None,
        "decoder": split,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in facts.words("tokenizer.ggml.merges")],
        },
    }  # fmt: skip


def _tokenizer_config(facts: _Facts) -> dict[str, Any]:
    tokens = facts.words("tokenizer.ggml.tokens")
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": facts.number("llama.context_length"),
    }
    for role, key in {
        "bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding",
    }.items():  # fmt: skip
        if facts.has(f"tokenizer.ggml.{key}_token_id"):
            config[role] = tokens[facts.number(f"tokenizer.ggml.{key}_token_id")]
    if facts.has("tokenizer.chat_template"):
        config["chat_template"] = facts.text("tokenizer.chat_template")
    return config


def write_safetensors(path: Path, weights: dict[str, np.ndarray]) -> None:
    """The safetensors format with its header sorted by name: one content, one byte string."""
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    offset = 0
    for name in sorted(weights):
        array = weights[name]
        header[name] = {
            "dtype": SAFETENSORS_TYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    encoded = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for name in sorted(weights):
            file.write(np.ascontiguousarray(weights[name]).data)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _refusal(why: str) -> PermeshError:
    return PermeshError(
        "model.gguf",
        f"The model cannot be converted: {why}.",
        "Use a model in mlx-lm's format from the Hugging Face hub.",
    )


def main(arguments: list[str]) -> int:
    source, folder = arguments
    try:
        convert(Path(source), Path(folder))
    except PermeshError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
