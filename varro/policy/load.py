"""The live policy: a Qwen-like causal LM with a LoRA adapter over its frozen weights.

The frozen base and the reference are the same weights with the adapter off, so there is never a
second model in memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from varro import __version__
from varro.config import PolicyConfig
from varro.errors import PolicyError
from varro.launch import processes_here
from varro.policy.blocks import run_blocks_here
from varro.policy.cluster import Cluster
from varro.policy.fastmath import quick_layout
from varro.policy.folder import check_model_config, hash_weights, resolve_model
from varro.policy.head import Head
from varro.policy.memory import ModelShape, default_budget_bytes
from varro.policy.mlx import device_name, limit_memory, make_streams, mx, nn
from varro.policy.prompt import PromptEncoder, make_prompt_encoder

LORA_KEYS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass
class Policy:
    """Weights, tokenizer and prompt of one policy; `version` says which checkpoint is in it."""

    model: Any
    tokenizer: Any
    prompts: PromptEncoder
    eos_ids: frozenset[int]
    paragraph_ids: frozenset[int]
    """ids of tokens that hold a blank line"""
    model_path: Path
    base_sha256: str
    lora_rank: int
    lora_scale: float
    n_layers: int
    context_length: int
    budget_bytes: int
    """of memory, for sampling and training"""
    streams: tuple[mx.Stream, ...]
    """work that can run side by side is dealt out to these"""
    fine_tune: str = "lora"
    """`lora`, or `full`: every weight trains"""
    base: dict[str, mx.array] = field(default_factory=dict)
    """the frozen base's arrays, where they are what trains (`full`)"""
    reference: dict[str, mx.array] | None = None
    """trainable arrays of the policy that the leash is tied to; None is the frozen base"""
    version: int = 0
    is_base: bool = False
    """the adapter is off"""
    cluster: Cluster = field(default_factory=Cluster)
    """the processes that share the work"""

    def hidden(self, input_ids: mx.array, cache: list[Any] | None = None) -> mx.array:
        """Last hidden states, before the language-model head. Shapes: (B, T) → (B, T, H)."""
        return self.hidden_of(self.embed(input_ids), cache)

    def embed(self, input_ids: mx.array) -> mx.array:
        """Rows of the embedding table. Shapes: (...) → (..., H)."""
        embedded: mx.array = self.model.model.embed_tokens(input_ids)
        return embedded

    def hidden_of(self, embedded: mx.array, cache: list[Any] | None = None) -> mx.array:
        """As `hidden`, of tokens that are embedded. Shapes: (B, T, H) → (B, T, H)."""
        hidden: mx.array = self.model.model(None, cache, embedded)
        return hidden

    def shape(self) -> ModelShape:
        """What memory depends on."""
        from mlx.utils import tree_flatten

        args = self.model.args
        arrays = [a for _, a in tree_flatten(self.model.parameters())]
        return ModelShape(
            weights_bytes=sum(a.nbytes for a in arrays),
            trainable_bytes=self.trained_bytes(),
            value_bytes=self.model.model.embed_tokens.weight.itemsize,
            n_layers=self.n_layers,
            hidden=args.hidden_size,
            feed_forward=args.intermediate_size,
            n_heads=args.num_attention_heads,
            n_kv_heads=args.num_key_value_heads,
            head_dim=getattr(args, "head_dim", args.hidden_size // args.num_attention_heads),
            n_vocab=self.head().weight.shape[0],
            trains_head=self.fine_tune == "full",
            has_reference=self.reference is not None,
        )

    def side_by_side(
        self, work: Callable[[_T], Any], items: Sequence[_T], *, at_once: int
    ) -> Iterator[Any]:
        """`work` of each item, evaluated, at most `at_once` (of no more than there are streams)
        together.

        `work` must only build a graph and return arrays, or lists, tuples or dicts of them.
        """
        for built in self.built_side_by_side(work, items, at_once=at_once):
            mx.eval(built)
            yield from built

    def built_side_by_side(
        self, work: Callable[[_T], _R], items: Sequence[_T], *, at_once: int
    ) -> Iterator[list[_R]]:
        """`work` of each item, yet to be evaluated: in runs of at most `at_once`, each item of a
        run on its own stream."""
        for start in range(0, len(items), at_once):
            built = []
            for stream, item in zip(self.streams, items[start : start + at_once], strict=False):
                with mx.stream(stream):
                    built.append(work(item))
            yield built

    def head(self) -> Head:
        """The language-model head as it is now."""
        tied = self.model.args.tie_word_embeddings
        layer = self.model.model.embed_tokens if tied else self.model.lm_head
        return Head(layer.weight, trains=self.fine_tune == "full")

    def adapter(self) -> dict[str, mx.array]:
        """Trainable arrays by name."""
        from mlx.utils import tree_flatten

        return dict(tree_flatten(self.model.trainable_parameters()))

    def trained_bytes(self) -> int:
        """Of `adapter()`."""
        return sum(a.nbytes for a in self.adapter().values())

    def set_adapter(self, arrays: dict[str, mx.array]) -> None:
        """Replace the adapter's arrays; names and shapes must be exactly those of `adapter()`.

        Raises: PolicyError naming the first difference.
        """
        self._check_adapter(arrays)
        self.model.load_weights(list(arrays.items()), strict=False)
        mx.eval(self.model.parameters())

    def set_reference(self, arrays: dict[str, mx.array] | None) -> None:
        """Tie the leash to an adapter, or to the frozen base.

        Raises: PolicyError naming the first difference to `adapter()`.
        """
        if arrays is not None:
            self._check_adapter(arrays)
            arrays = {name: mx.array(array) for name, array in arrays.items()}
        self.reference = arrays

    def _check_adapter(self, arrays: dict[str, mx.array]) -> None:
        mine = self.adapter()
        if set(arrays) != set(mine):
            odd = sorted(set(arrays) ^ set(mine))[0]
            raise PolicyError(
                f"the adapter has {len(arrays)} tensors, the policy wants {len(mine)}; "
                f"first difference: {odd}"
            )
        for name, array in arrays.items():
            if array.shape != mine[name].shape:
                raise PolicyError(
                    f"adapter tensor {name} has shape {array.shape}, expected {mine[name].shape}"
                )

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """Inside, the policy is what its leash is tied to."""
        if self.reference is None:
            with self.adapter_off():
                yield
        else:
            with self._swapped(self.reference):
                yield

    @contextmanager
    def _swapped(self, arrays: dict[str, mx.array]) -> Iterator[None]:
        mine = self.adapter()
        self.model.load_weights(list(arrays.items()), strict=False)
        try:
            yield
        finally:
            self.model.load_weights(list(mine.items()), strict=False)

    @contextmanager
    def adapter_off(self) -> Iterator[None]:
        """Inside, the policy is the frozen base: LoRA's scale is 0 in every layer, or, where all
        weights train, the first weights are back."""
        was_base, self.is_base = self.is_base, True
        try:
            if self.fine_tune == "full":
                with self._swapped(self.base):
                    yield
            else:
                with self._unscaled():
                    yield
        finally:
            self.is_base = was_base

    @contextmanager
    def _unscaled(self) -> Iterator[None]:
        layers = [m for m in self.model.modules() if "lora_a" in m]
        for layer in layers:
            layer.scale = 0.0
        try:
            yield
        finally:
            for layer in layers:
                layer.scale = self.lora_scale

    def join(self, cluster: Cluster) -> None:
        """Share the work with other processes, each of which holds this policy.

        Raises: ClusterError if one of them holds another.
        """
        cluster.meet(
            {
                "Varro": __version__,
                "MLX": version("mlx"),
                "base weights with sha256": self.base_sha256,
                "weights of type": str(self.model.model.embed_tokens.weight.dtype),
                "what trains": [self.fine_tune, self.lora_rank, self.lora_scale],
            }
        )
        self.cluster = cluster

    def align(self) -> None:
        """Take over rank 0's adapter, reference and version: all ranks do before a job.

        The frozen base is everywhere the same.
        """
        if self.cluster.size == 1 or self.is_base:
            return
        mine, tied_to = self.adapter(), self.reference or {}
        adapter, reference = self.cluster.mirror(mine), self.cluster.mirror(tied_to)
        if adapter is not mine:
            self.set_adapter(dict(adapter))
        if reference is not tied_to:
            self.set_reference(dict(reference) or None)
        self.version = self.cluster.from_main(self.version)

    @contextmanager
    def tied_to_base(self) -> Iterator[None]:
        """Inside, the reference is the frozen base, whatever the leash is tied to."""
        reference, self.reference = self.reference, None
        try:
            yield
        finally:
            self.reference = reference

    def n_parameters(self) -> tuple[int, int]:
        """(all without an adapter, trainable)."""
        from mlx.utils import tree_flatten

        total = sum(a.size for _, a in tree_flatten(self.model.parameters()))
        trainable = sum(a.size for a in self.adapter().values())
        return (total if self.fine_tune == "full" else total - trainable), trainable

    def decode(self, token_ids: tuple[int, ...]) -> str:
        """Text of sampled tokens without added tokens."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True)).strip()


def load_policy(config: PolicyConfig, *, lora_seed: int, budget_bytes: int | None = None) -> Policy:
    """The policy of a config, with a fresh adapter (B = 0, so it equals the frozen base).

    `budget_bytes` of memory is what it may take with all its work; None is half of the machine's.

    Raises: PolicyError if the folder is missing, is not a Qwen-like causal LM, or lacks weights
    or a usable tokenizer.
    """
    path = resolve_model(config.model)
    model_config = check_model_config(path)
    budget_bytes = (budget_bytes or default_budget_bytes()) // processes_here()
    limit_memory(budget_bytes)
    from mlx_lm import load

    try:
        model, wrapper = load(str(path))
    except Exception as error:
        raise PolicyError(f"cannot load the policy in {path}: {error}") from error
    tokenizer = wrapper._tokenizer
    if config.fine_tune == "full":
        model.set_dtype(mx.float32)  # these are the optimiser's masters
    else:
        _set_dtype(model, config.dtype)
        _lay_out(model)
        _add_adapter(model, config, lora_seed)
    run_blocks_here(model)
    mx.eval(model.parameters())
    policy = Policy(
        model=model,
        tokenizer=tokenizer,
        prompts=make_prompt_encoder(tokenizer),
        eos_ids=frozenset(wrapper.eos_token_ids),
        paragraph_ids=_paragraph_ids(tokenizer),
        model_path=path,
        base_sha256=hash_weights(path),
        lora_rank=config.lora_rank,
        lora_scale=config.lora_scale,
        n_layers=len(model.layers),
        context_length=int(model_config.get("max_position_embeddings", 32768)),
        budget_bytes=budget_bytes,
        streams=make_streams(),
        fine_tune=config.fine_tune,
    )
    if config.fine_tune == "full":
        policy.base = policy.adapter()
    elif len(policy.adapter()) != 2 * len(LORA_KEYS) * policy.n_layers:
        raise PolicyError(
            f"{path}: LoRA matched {len(policy.adapter()) // 2} linear layers, expected "
            f"{len(LORA_KEYS)} in each of {policy.n_layers} blocks"
        )
    return policy


def leave_out_torch() -> None:
    """Let transformers, which reads the tokenizer for mlx_lm, take torch for not installed: 190 MB
    and a second less, for a process that embeds nothing.

    Note: transformers asks once, while mlx_lm imports it, and remembers; to all others torch is
    there.
    """
    if "torch" in sys.modules:
        return
    sys.modules["torch"] = cast(ModuleType, None)  # as Python marks what can not be imported
    try:
        import mlx_lm  # noqa: F401
    finally:
        del sys.modules["torch"]


def _add_adapter(model: nn.Module, config: PolicyConfig, seed: int) -> None:
    """LoRA over every linear layer, the base frozen."""
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model.freeze()
    mx.random.seed(seed & 0xFFFFFFFF)
    linear_to_lora_layers(
        model,
        len(model.layers),
        {
            "rank": config.lora_rank,
            "scale": config.lora_scale,
            "dropout": 0.0,
            "keys": list(LORA_KEYS),
        },
    )


def _set_dtype(model: nn.Module, dtype: str) -> None:
    if dtype == "auto":
        dtype = "float32" if device_name() == "cpu" else "stored"
    if dtype != "stored":
        model.set_dtype(getattr(mx, dtype))


def _lay_out(model: nn.Module) -> None:
    """Frozen weights of linear layers as products with them are quick, one at a time."""
    for layer in model.layers:
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                module.weight = quick_layout(module.weight)
                mx.eval(module.weight)


def _paragraph_ids(tokenizer: Any) -> frozenset[int]:
    # Byte-level BPE writes a newline as "Ċ".
    return frozenset(i for token, i in tokenizer.get_vocab().items() if "ĊĊ" in token)
