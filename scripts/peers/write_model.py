"""Write one of the workload's models: random weights in Hugging Face layout, and a tokenizer.

python scripts/peers/write_model.py small --out FOLDER
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from workload import MODELS, SEED, SPECIAL, Shape, token_text

CHAT_TEMPLATE = "{%- for message in messages -%}{{ message.content + ' ' }}{%- endfor -%}"
_LINEAR = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)


def write_model(shape: Shape, out: Path) -> None:
    """Write config, float32 weights and tokenizer; config.json last, so that it marks the end."""
    out.mkdir(parents=True, exist_ok=True)
    save_file(random_weights(shape), out / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(shape.vocab, out)
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "vocab_size": shape.vocab,
        "pad_token_id": SPECIAL.index("<pad>"),
        "eos_token_id": SPECIAL.index("<eos>"),
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def random_weights(shape: Shape) -> dict[str, NDArray[np.float32]]:
    """Normal weights of spread 0.02, as Hugging Face initialises Qwen3, and norms of 1."""
    random = np.random.default_rng(SEED)

    def normal(*size: int) -> NDArray[np.float32]:
        return random.standard_normal(size, dtype=np.float32) * np.float32(0.02)

    ones = np.ones
    weights = {
        "model.embed_tokens.weight": normal(shape.vocab, shape.hidden),
        "model.norm.weight": ones(shape.hidden, np.float32),
    }
    for i in range(shape.layers):
        block = f"model.layers.{i}"
        for name, size in zip(_LINEAR, shape.products(), strict=True):
            weights[f"{block}.{name}.weight"] = normal(*size)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{block}.{name}.weight"] = ones(shape.hidden, np.float32)
        for name in ("q_norm", "k_norm"):
            weights[f"{block}.self_attn.{name}.weight"] = ones(shape.head_dim, np.float32)
    return weights


def write_tokenizer(vocab: int, out: Path) -> None:
    """One word a token: `t17` is token 17, so that text and ids say the same."""
    words = {token_text(i): i for i in range(vocab)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 4096,
        "clean_up_tokenization_spaces": False,
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "chat_template": CHAT_TEMPLATE,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    write_model(MODELS[options.model], options.out)


if __name__ == "__main__":
    main()
