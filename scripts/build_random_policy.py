"""Write a Qwen3 policy of any shape with random weights: for loading, memory and speed.

It borrows the tiny policy's tokenizer; ids past that vocabulary decode to nothing.
Default: Qwen3-0.6B's true shape. Example:

    python scripts/build_random_policy.py --out /tmp/qwen3-0.6b-random
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from varro.policy.mlx import mx

TINY_POLICY = Path(__file__).resolve().parent.parent / "data" / "tiny-policy"
QWEN3_0_6B = {
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "vocab_size": 151_936,
}


def build_random_policy(out: Path, *, shape: dict[str, int], seed: int) -> int:
    """Write the folder and return the number of parameters."""
    from mlx.utils import tree_flatten
    from mlx_lm.models.qwen3 import Model, ModelArgs

    config = json.loads((TINY_POLICY / "config.json").read_text()) | shape
    config["rope_theta"] = 1_000_000.0
    mx.random.seed(seed)
    model = Model(ModelArgs.from_dict(config))
    mx.eval(model.parameters())
    out.mkdir(parents=True, exist_ok=True)
    for file in TINY_POLICY.iterdir():
        if file.suffix in (".json", ".jinja") and file.name != "config.json":
            shutil.copy(file, out)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(out / "model.safetensors"), weights, metadata={"format": "mlx"})
    return sum(array.size for array in weights.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    for key, default in QWEN3_0_6B.items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=int, default=default)
    options = vars(parser.parse_args())
    shape = {key: options[key] for key in QWEN3_0_6B}
    n = build_random_policy(options["out"], shape=shape, seed=options["seed"])
    print(f"{options['out']}: {n / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
