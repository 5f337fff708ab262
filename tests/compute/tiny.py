"""A tiny model with random weights, in the format of a fetched one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from permesh.inference.catalogue import ModelInfo, write_card

NAME = "tiny"
LAYERS = 12
WIDTH = 32
VOCABULARY = 128
CONTEXT = 4096

TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}w1"


def make(models: Path, name: str = NAME, seed: int = 1) -> ModelInfo:
    """A llama of 12 layers whose words are w0 … w127."""
    folder = models / name
    folder.mkdir(parents=True)
    config = {
        "model_type": "llama",
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "intermediate_size": 2 * WIDTH,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "eos_token_id": VOCABULARY - 1,
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(_weights(seed), str(folder / "model.safetensors"), metadata={"format": "mlx"})
    words = {f"w{number}": number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": f"w{VOCABULARY - 1}",
                "unk_token": "w0",
                "chat_template": TEMPLATE,
            }
        )
    )
    return write_card(folder, name, LAYERS, "test", lambda *_: None)


def _weights(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.25, shape).astype(np.float32)

    weights = {"model.embed_tokens.weight": draw(VOCABULARY, WIDTH) * 4}
    weights["model.embed_tokens.weight"][-1] = 0  # the end of an answer is never the likeliest
    weights["model.norm.weight"] = np.ones(WIDTH, np.float32)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        weights[at + "input_layernorm.weight"] = np.ones(WIDTH, np.float32)
        weights[at + "post_attention_layernorm.weight"] = np.ones(WIDTH, np.float32)
        for part, rows in (("q", WIDTH), ("k", WIDTH // 2), ("v", WIDTH // 2), ("o", WIDTH)):
            weights[at + f"self_attn.{part}_proj.weight"] = draw(rows, WIDTH)
        weights[at + "mlp.gate_proj.weight"] = draw(2 * WIDTH, WIDTH)
        weights[at + "mlp.up_proj.weight"] = draw(2 * WIDTH, WIDTH)
        weights[at + "mlp.down_proj.weight"] = draw(WIDTH, 2 * WIDTH)
    return weights


def words(count: int, seed: int = 3) -> str:
    """A prompt of ``count`` tokens."""
    rng = random.Random(seed)
    return " ".join(f"w{rng.randrange(2, VOCABULARY - 1)}" for _ in range(count))
