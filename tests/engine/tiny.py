"""Tiny models with random weights, of many architectures, and folders in mlx-lm's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from permesh.inference.catalogue import ModelInfo, write_card
from permesh.inference.engine.gguf import write_safetensors

VOCABULARY = 300
COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 6,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": COMMON,
    "gemma2": COMMON,
    # Sliding windows, shorter than the prompts of the tests.
    "gemma3_text": {**COMMON, "sliding_window": 4, "sliding_window_pattern": 3},
    "gpt_oss": {
        **COMMON,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 3,
    },
    "qwen3": COMMON,
    "qwen3_moe": {**COMMON, **EXPERTS},
    "phi3": COMMON,
    # Positions come from the first layer's cache, in the embedding.
    "gpt2": {
        "n_ctx": 512, "n_embd": 32, "n_head": 4, "n_layer": 6, "n_positions": 512,
        "layer_norm_epsilon": 1e-5, "vocab_size": VOCABULARY, "num_hidden_layers": 6,
    },
    # No attention at all: states, which cannot go back.
    "mamba": {
        **COMMON, "state_size": 8, "conv_kernel": 3, "use_bias": False,
        "use_conv_bias": True, "time_step_rank": 4,
    },
    # States and attention by turns, with masks of two kinds.
    "qwen3_next": {
        **COMMON, **EXPERTS, "linear_num_value_heads": 4, "linear_num_key_heads": 2,
        "linear_key_head_dim": 32, "linear_value_head_dim": 32, "linear_conv_kernel_dim": 3,
        "shared_expert_intermediate_size": 32, "partial_rotary_factor": 0.5,
        "full_attention_interval": 3,
    },
    # Two values pass between its layers.
    "rwkv7": {
        **COMMON, "norm_eps": 1e-5, "head_dim": 8, "a_low_rank_dim": 8, "v_low_rank_dim": 8,
        "gate_low_rank_dim": 8, "decay_low_rank_dim": 8,
    },
}  # fmt: skip
# Each shares something across its layers, or runs them twice.
UNSPLITTABLE: dict[str, dict[str, Any]] = {
    "iquestloopcoder": {**COMMON, "loop_num": 2, "loop_window_size": 4},
    "afm7": {
        "vocab_size": VOCABULARY, "hidden_dim": 32, "num_layers": 6, "num_hidden_layers": 6,
        "num_kv_reuse_layers": 2, "num_heads": 4, "num_kv_heads": 2,
    },
    "gemma4_text": {
        **COMMON, "global_head_dim": 8, "num_kv_shared_layers": 2,
        "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8,
        "sliding_window": 4, "sliding_window_pattern": 3,
    },
    "gemma3n": {
        "text_config": {
            **COMMON, "model_type": "gemma3n_text", "num_kv_shared_layers": 2,
            "vocab_size_per_layer_input": VOCABULARY, "sliding_window": 4,
            "rope_local_base_freq": 10000.0, "final_logit_softcapping": 30.0,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
            "activation_sparsity_pattern": [0.0] * 6, "hidden_size_per_layer_input": 8,
            "altup_num_inputs": 2, "altup_coef_clip": 120.0, "altup_correct_scale": True,
            "altup_active_idx": 0, "laurel_rank": 8,
        },
    },
}  # fmt: skip


def config_of(kind: str, **changes: Any) -> dict[str, Any]:
    return {"model_type": kind, **(CONFIGS | UNSPLITTABLE)[kind], **changes}


def build(kind: str, seed: int = 0, **changes: Any) -> Any:
    """A model of an architecture with random weights."""
    config = config_of(kind, **changes)
    model_class, args_class = _get_classes(config)
    mx.random.seed(seed)
    model = model_class(args_class.from_dict(config))
    model.eval()
    mx.eval(model.parameters())
    return model


def make(models: Path, kind: str = "llama", name: str = "tiny", **changes: Any) -> ModelInfo:
    """A folder as a fetched one: weights, config, a byte-level tokenizer, a card."""
    folder = models / name
    folder.mkdir(parents=True)
    model = build(kind, **changes)
    weights: Any = tree_flatten(model.parameters())
    arrays = {path: np.array(array.astype(mx.float32)) for path, array in weights}
    for path, array in arrays.items():
        if ("embed" in path or "lm_head" in path) and len(array) == VOCABULARY:
            array[-1] = 0  # the end of an answer is never the likeliest token
    write_safetensors(folder / "model.safetensors", arrays)
    config = {**config_of(kind, **changes), "eos_token_id": VOCABULARY - 1}
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder)
    return write_card(folder, name, len(model.layers), "test", lambda *_: None)


def write_tokenizer(folder: Path) -> None:
    """Bytes, and made-up words up to the vocabulary's size; the last is the end of an answer."""
    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(alphabet)}
    while len(vocabulary) < VOCABULARY - 2:
        vocabulary[f"word{len(vocabulary)}"] = len(vocabulary)
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(["<turn>", "<end>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<end>",
        "clean_up_tokenization_spaces": False,
        "chat_template": "{% for m in messages %}<turn>{{ m['content'] }}{% endfor %}<turn>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
