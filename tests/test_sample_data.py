from __future__ import annotations

import gzip
import json
import re
import sys
from collections import Counter, defaultdict
from datetime import date, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from safetensors import safe_open

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data" / "sample"
TINY = ROOT / "data" / "tiny-policy"
sys.path.insert(0, str(ROOT / "scripts"))

import build_sample_world as sample  # noqa: E402

FIELDS = {"feed", "source", "guid", "title", "link", "published", "first_seen"}
UP = re.compile(r" (rises?|climbs?|gains?|up) (another )?(\d(?:\.\d)?)%")
DOWN = re.compile(r" (falls?|drops?|slips?|down) (another )?(\d(?:\.\d)?)%")


def read_days(name: str) -> dict[str, list[dict[str, str]]]:
    days = defaultdict(list)
    with gzip.open(SAMPLE / name, "rt", encoding="utf-8") as lines:
        for line in lines:
            item = json.loads(line)
            days[item["first_seen"][:10]].append(item)
    return dict(days)


@pytest.mark.parametrize("name", ["world.jsonl.gz", "shuffled.jsonl.gz"])
def test_each_of_28_consecutive_days_has_48_complete_headlines(name: str) -> None:
    """Catches a gap in the days, a lost headline, and items seen before they were published."""
    days = read_days(name)
    assert list(days) == [str(date(2026, 1, 5) + timedelta(days=n)) for n in range(28)]
    items = [item for day in days.values() for item in day]
    assert {len(day) for day in days.values()} == {48}
    assert {frozenset(item) for item in items} == {frozenset(FIELDS)}
    assert len({item["guid"] for item in items}) == len(items)
    assert len({item["source"] for item in items}) >= 5
    assert all(item["link"].startswith("https://example.org/") for item in items)
    assert all(item["published"] < item["first_seen"] for item in items)
    assert all("05:00" <= item["first_seen"][11:16] <= "22:00" for item in items)


def test_rebuilding_with_the_default_seed_gives_the_committed_bytes(tmp_path: Path) -> None:
    """Catches data that no longer matches its script, and bytes that depend on clock or hash."""
    rng = Random(0)
    storylines, world = sample.build_world(rng, 28)
    sample.write_days(tmp_path / "world.jsonl.gz", world)
    sample.write_days(tmp_path / "shuffled.jsonl.gz", sample.shuffle_days(rng, storylines, world))
    for name in ("world.jsonl.gz", "shuffled.jsonl.gz"):
        assert (tmp_path / name).read_bytes() == (SAMPLE / name).read_bytes()
        assert (SAMPLE / name).stat().st_size < 300_000


def test_the_drivers_sign_decides_every_stated_direction() -> None:
    """Catches a wording filed under the wrong sign: the rule that makes the world learnable."""
    storylines, _ = sample.build_world(Random(0), 28)
    days = list(read_days("world.jsonl.gz").values())
    for line in storylines:
        positive = line.driver in {d for group in sample.DRIVERS.values() for d in group[1]}
        for day in range(max(line.start, 0), min(line.start + line.days, 28)):
            told = [i for i in days[day] if i["title"].startswith(f"{line.entity} ")]
            titles = [item["title"] for item in told]
            assert len(set(titles)) == 2
            assert len({item["source"] for item in told}) == 2
            assert all(line.driver in title for title in titles)
            for title in titles:
                up, down = UP.search(title), DOWN.search(title)
                if day == line.start:
                    assert not up and not down
                else:
                    assert bool(up) is positive
                    assert bool(down) is not positive
                    assert 0.5 <= float((up or down)[3]) <= 3


def test_an_entity_lives_at_most_six_days_in_a_row_and_never_returns() -> None:
    """Catches a name drawn twice, which would put the answer into the placebo days."""
    storylines, _ = sample.build_world(Random(0), 28)
    days = list(read_days("world.jsonl.gz").values())
    assert len({line.entity for line in storylines}) == len(storylines)
    for line in storylines:
        seen = [n for n, day in enumerate(days) if any(line.entity in i["title"] for i in day)]
        assert seen == list(range(max(line.start, 0), min(line.start + line.days, 28)))
        assert 4 <= line.days <= 6


def test_the_shuffled_world_has_the_same_items_under_other_dates() -> None:
    """Catches a negative control that changes the text, or keeps a story going overnight."""
    world, shuffled = read_days("world.jsonl.gz"), read_days("shuffled.jsonl.gz")
    kept = ("feed", "source", "guid", "title", "link")

    def content(days: dict[str, list[dict[str, str]]]) -> Counter[tuple[str, ...]]:
        return Counter(tuple(item[k] for k in kept) for day in days.values() for item in day)

    assert content(world) == content(shuffled)
    home = {item["guid"]: day for day, items in world.items() for item in items}
    order = [home[items[0]["guid"]] for items in shuffled.values()]
    assert [{home[i["guid"]] for i in items} for items in shuffled.values()] == [
        {day} for day in order
    ]
    assert all(new != old for new, old in zip(shuffled, order, strict=True))
    assert all(b != a + timedelta(days=1) for a, b in pairwise(map(date.fromisoformat, order)))


def test_a_shuffled_day_is_no_closer_to_the_next_than_to_its_placebo_days() -> None:
    """Catches a negative control in which staying on topic looks like foresight, or its reverse."""
    for name, expected in (("world.jsonl.gz", (5, 25)), ("shuffled.jsonl.gz", (-0.15, 0.15))):
        days = [{entity(item["title"]) for item in items} for items in read_days(name).values()]
        favours = []
        for n in range(2, 27):
            placebo = [len(days[n] & days[n - back]) for back in range(2, min(n, 10) + 1)]
            favours.append(len(days[n] & days[n + 1]) - sum(placebo) / len(placebo))
        for part in (favours, favours[:12]):
            assert expected[0] <= sum(part) / len(part) <= expected[1], (name, part)


@cache
def entities() -> list[str]:
    return [line.entity for line in sample.build_world(Random(0), 28)[0]]


def entity(title: str) -> str:
    return max((name for name in entities() if title.startswith(f"{name} ")), key=len)


def test_too_few_days_to_shuffle_are_refused() -> None:
    """Catches a control that silently keeps storylines together."""
    rng = Random(0)
    storylines, world = sample.build_world(rng, 5)
    with pytest.raises(ValueError, match="too few"):
        sample.shuffle_days(rng, storylines, world)


def test_the_tiny_policy_is_a_small_qwen3_with_hugging_face_names() -> None:
    """Catches a folder too big for the repository, and weights that only one loader can name."""
    assert sum(path.stat().st_size for path in TINY.iterdir()) <= 8_000_000
    config = json.loads((TINY / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["tie_word_embeddings"] is True
    with safe_open(TINY / "model.safetensors", framework="np") as weights:
        shapes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
        largest = max(float(np.abs(weights.get_tensor(name)).max()) for name in shapes)
    assert 1_000_000 <= sum(int(np.prod(shape)) for shape in shapes.values()) <= 3_000_000
    assert np.isfinite(largest)
    assert shapes["model.embed_tokens.weight"] == [config["vocab_size"], config["hidden_size"]]
    for layer in range(config["num_hidden_layers"]):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"):
            assert f"model.layers.{layer}.self_attn.{name}.weight" in shapes
    assert "lm_head.weight" not in shapes


def test_the_tiny_policys_tokenizer_gives_any_text_back() -> None:
    """Catches a byte alphabet with holes: an unseen character would vanish from the prompt."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    for text in ("Norvik’s “gas”  \n\tend ", "日本 ₿ ☃ 🇺🇦 é", "a\u200db\u0000c", "<think>x"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_control_tokens_are_added_tokens_only() -> None:
    """Catches `<|im_end|>` in the plain vocabulary, where a hostile headline could write it."""
    spec = json.loads((TINY / "tokenizer.json").read_text())
    added = {token["content"]: token["special"] for token in spec["added_tokens"]}
    assert added == {
        "<|endoftext|>": True,
        "<|im_start|>": True,
        "<|im_end|>": True,
        "<think>": False,
        "</think>": False,
    }
    assert not set(added) & set(spec["model"]["vocab"])


def test_the_generation_prompt_switches_thinking_off_as_qwen3_does() -> None:
    """Catches a template that leaves the policy to open a `<think>` block itself."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TINY)
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    opened = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n"
    assert tokenizer.apply_chat_template(chat, tokenize=False) == opened
    opened += "<|im_start|>assistant\n"
    assert tokenizer.is_fast
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|endoftext|>"
    for thinking, expected in ((True, opened), (False, f"{opened}<think>\n\n</think>\n\n")):
        rendered = tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
        )
        assert rendered == expected
