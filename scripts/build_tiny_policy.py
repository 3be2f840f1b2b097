"""Train the tiny policy: a Qwen3 of 1-3 M parameters that writes imperfect forecasts.

It stands in for a real checkpoint wherever one would be too slow: a standard Hugging Face folder
(`data/tiny-policy`) that `mlx_lm.load` reads, with Qwen's ChatML tokens and its way of switching
thinking off. It learns from invented pairs of headline and forecast only, rendered by the prompt
encoder that the service uses. Half of the headlines have the grammar of the sample world with
fresh names; the others are free-form, so that copying works on words never seen.

The answers are wrong on purpose, to leave a sequence-level reward something to find. Each row is
an independent draw, and shows in one token or two:

| beat         | good                                  | else                                    |
|--------------|---------------------------------------|-----------------------------------------|
| object       | .78 copied from the headline          | .22 another topic                       |
| direction    | .60 as the driver's sign (world) or   | .40 a fair coin                         |
|              | the headline's verb (free-form) says  |                                         |
| magnitude    | .75 0.5-3%                            | .18 none, .07 20-40%                    |
| timeframe    | .65 a day or less                     | .20 vague, .15 none                     |
| drivers      | .52 from the headline, if it has any  | .38 generic, .10 none                   |
| verification | .60 concrete                          | .20 vague, .20 none                     |

Training goes from easy to long, to spend two cores well: copying strings of random tokens from a
vocabulary that grows from 60 to all (drawn from all at once, copying was not learnt in 260
steps), then headline and forecast without the template, then the exact prompt. The loss is on the
answer's tokens and its `<|im_end|>` only.
"""

from __future__ import annotations

import argparse
import json
import string
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from varro.policy.blas import load_fast_blas  # noqa: E402

load_fast_blas()

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
import mlx.optimizers as optim  # noqa: E402
import numpy as np  # noqa: E402
from build_sample_world import (  # noqa: E402
    DRIVERS,
    KINDS,
    MOVED,
    SINGULAR,
    SIZES,
    announcements,
    draw_entity,
    draw_name,
)
from mlx.utils import tree_flatten  # noqa: E402
from mlx_lm.models.qwen3 import Model, ModelArgs  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

from varro.policy.prompt import SYSTEM, USER, make_prompt_encoder  # noqa: E402

VOCABULARY = 2000
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINKING = ("<think>", "</think>")
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "hidden_size": 144,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "initializer_range": 0.02,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "use_cache": True,
}

# Source: the pre-tokenizer of Qwen3's tokenizer.json.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}
{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}
{%- endif -%}
"""

BATCH = 64


@dataclass(frozen=True)
class Phase:
    """A stretch of training: how many steps on which kind of sequence."""

    name: str
    steps: int


PHASES = (Phase("copy", 220), Phase("bare", 220), Phase("prompt", 110))
PEAK_RATE = 3e-3
WARMUP = 30


@dataclass(frozen=True)
class Story:
    """A headline and what its maker knows of it."""

    headline: str
    thing: str
    """the words a forecast takes as its object"""
    driver: str | None
    sign: int | None
    """+1 or -1 if the headline implies a direction"""


# Words of free-form headlines.

ADJECTIVES = """
    new young old rural urban global local foreign private public senior former top big small
    rising quiet angry rich poor cheap costly rare common hidden secret strange modern ancient
    royal military civil legal illegal digital electric nuclear solar frozen dry wet hot cold
    wild domestic offshore early late fast slow hard soft heavy light clean dirty deep high low
    long short next last first American European Chinese Russian Indian British French German
    Japanese African Israeli Iranian Mexican Canadian Brazilian Korean Turkish Spanish Italian
    Swiss Dutch Ukrainian Asian Western central federal regional national international economic
    political scientific medical financial corporate industrial commercial environmental
    religious cultural artificial orbital coastal polar
""".split()

NOUNS = """
    voters farmers miners doctors nurses teachers students parents children women workers
    drivers pilots soldiers sailors judges lawyers lawmakers senators ministers officials
    regulators investors traders bankers lenders buyers sellers owners tenants builders
    retailers makers producers exporters importers suppliers refiners carmakers airlines
    shipowners startups firms companies banks funds hospitals schools colleges universities
    courts prisons churches museums theatres stadiums airports ports ships trains trucks cars
    planes drones rockets satellites telescopes robots chips batteries phones apps games films
    songs books papers studies trials vaccines drugs viruses diseases cancers genes cells stars
    planets comets oceans rivers lakes forests fires storms floods droughts quakes glaciers
    whales sharks wolves bees birds cats dogs horses crops wheat corn rice coffee cocoa sugar
    milk eggs beef fish fruit wine beer water gas oil coal steel copper gold silver lithium
    uranium power energy wind heat rain snow weather climate carbon smoke air soil land homes
    houses rents mortgages prices wages taxes tariffs bonds stocks shares markets currencies
    dollars euros pounds loans debts deficits budgets spending savings profits losses sales
    exports imports orders deals mergers bids talks votes polls elections parties rallies
    protests strikes riots wars truces troops missiles tanks borders refugees migrants visas
    laws bills bans rules rights crimes frauds scandals leaks hacks spies teams players coaches
    clubs leagues matches races records medals fans crowds chief leader president king queen
    prince mayor boss founder veteran expert critic author actor economy industry sector trade
    growth inflation recession crisis plan strategy policy report survey network grid bridge
    tunnel road factory mine plant farm pipeline terminal summit treaty alliance
""".split()

SUBJECT_ROLES = """
    President Minister Senator Judge Governor Mayor Chancellor Professor Chief General Captain
    Coach Secretary Chairman Ambassador Commissioner Doctor Bishop Prince Lady
""".split()

ORGANISATIONS = """
    EU US UK UN Fed ECB NATO WHO NASA IMF OPEC FBI CIA BBC FIFA WTO Google Apple Tesla Boeing
    Amazon Microsoft Nvidia Trump Putin Europe America China India Russia Japan Germany France
    Britain Israel Iran Ukraine Canada Mexico Brazil Congress Parliament Pentagon Kremlin
    Vatican Hollywood London Paris Berlin Tokyo Moscow Beijing Delhi Washington California Texas
    Africa Asia
""".split()

VERBS_UP = """
    rises rise rose jumps jump jumped climbs climb gains gain gained grows grow grew surges
    surge soars soar expands expand wins win recovers rebound rally booms increases raises raise
    boosts lifts
""".split()

VERBS_DOWN = """
    falls fall fell drops drop dropped slides slide sinks sink sank shrinks shrink slumps slump
    loses lose plunges tumbles declines decline cuts cut weakens suffers crashes fails misses
    retreats
""".split()

VERBS = """
    faces face fights fight warns of seeks seek backs back blocks block bans ban delays delay
    reviews review rejects reject approves approve plans plan opens open closes close buys buy
    sells sell sues signs sign joins join leaves leave meets meet hits hit targets target tests
    test finds find discovers launches launch builds build breaks break ends end begins begin
    wants want needs need eyes courts weighs considers accuses urges tells asks pushes pulls
    holds keeps makes takes gives sees shows turns moves returns reaches rules replaces reveals
    shakes threatens defends questions will may could should must is are was has have did says
""".split()

PREPOSITIONS = "in on at for with from to over after against under near beyond into by of".split()
PLACES = """
    court parliament Europe Asia Africa America space public private Gaza Kyiv Texas Berlin the
    north the south the capital the region the Senate the Arctic the desert the sea the city the
    market
""".split()
REASONS = ("as", "after", "on", "amid", "because of", "due to", "thanks to", "over")
REASON_NOUNS = """
    fears hopes demand supply rates costs rules talks strikes storms war tariffs weather delays
    shortages sales profits protests research results votes data tensions doubts cuts funding
""".split()
ENDINGS = (
    ", says {name}", ", official says", ", study finds", ", report says", " this week", " again",
    " for first time", ", sources say", " - live", ": what to know", "?", "!", " in {year}",
    " (video)", ", poll shows", ", court rules", " by {year}", " for ${n} bn", " worth €{n}m",
    " at {n}%", ", killing {n}",
)  # fmt: skip
QUESTIONS = "Will Can Could Should Is Are Why How Does What Who".split()

# Words of the answers.

OFF_TOPIC = (
    "The broader market", "Oil prices", "The central bank", "Consumer confidence",
    "The housing market", "Government debt",
)  # fmt: skip
RISES = ("rise", "climb", "gain", "increase")
FALLS = ("fall", "drop", "slip", "decline")
BIG = ("20", "25", "30", "35", "40")
TIGHT = (
    "by tomorrow", "within 24 hours", "tomorrow", "by tomorrow evening",
    "by Monday", "by Tuesday", "by Wednesday", "by Thursday", "by Friday",
)  # fmt: skip
VAGUE = ("next quarter", "in the coming months", "over the next year", "in the long run")
GENERIC = (
    "market sentiment", "policy news", "investor caution", "seasonal trends", "global events",
)  # fmt: skip
SECONDS = (
    "steady public interest", "early trading", "recent official comments", "the latest reports",
    "wider regional news",
)  # fmt: skip
LINKS = (", driven by", ", because of", ", on the back of")
CONCRETE = (
    "Verify with the {thing} report and the official figures on {weekday}.",
    "Verify with the {thing} report in the morning papers.",
    "Check the official {thing} figures published on {weekday}.",
    "Check the closing figures and the headlines on {weekday}.",
    "Confirmed if the statistics office publishes a matching figure on {weekday}.",
)
UNCLEAR = (
    "Time will tell how this plays out.",
    "Observers will keep watching this closely.",
    "Much remains uncertain for now.",
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")


def draw_example(rng: Random) -> tuple[str, str]:
    """A headline and an imperfect forecast for it."""
    story = draw_world_story(rng) if rng.random() < 0.5 else draw_free_story(rng)
    return story.headline, draw_answer(rng, story)


def draw_world_story(rng: Random) -> Story:
    """A headline in the grammar of the sample world, with a fresh entity."""
    kind = rng.choice(KINDS)
    entity, _ = draw_entity(rng, kind)
    sign = rng.choice((1, -1))
    driver = rng.choice(DRIVERS[kind.domain][sign])
    aspect = rng.choice(kind.aspects)
    wordings = announcements(kind) if rng.random() < 0.3 else MOVED[sign]
    wording = rng.choice(wordings)
    headline = wording.format(
        entity=entity,
        aspect=aspect,
        driver=driver,
        s="s" if aspect in SINGULAR else "",
        size=rng.choice(SIZES),
        weekday=rng.choice(WEEKDAYS),
    )
    thing = f"{entity} {aspect}" if "{aspect}" in wording or rng.random() < 0.5 else entity
    return Story(headline, thing, driver, sign)


def draw_free_story(rng: Random) -> Story:
    """A headline of another shape: topics, names, digits, quotes and case at random."""
    thing = _noun_phrase(rng)
    sign, verb = rng.choice(
        ((1, rng.choice(VERBS_UP)), (-1, rng.choice(VERBS_DOWN)), (None, rng.choice(VERBS)))
    )
    parts = [thing, verb]
    if rng.random() < 0.7:
        parts.append(_words(rng))
    if rng.random() < 0.45:
        parts += [rng.choice(PREPOSITIONS), rng.choice((rng.choice(PLACES), _words(rng)))]
    driver = None
    if rng.random() < 0.5:
        driver = _reason(rng)
        parts += [rng.choice(REASONS), driver]
    shape = rng.random()
    if shape < 0.08:
        parts.insert(0, rng.choice(QUESTIONS))
        parts[-1] += "?"
    elif shape < 0.12:
        parts = [thing]
        sign = driver = None
    elif shape < 0.18:
        parts[0] += rng.choice((":", ",", " -", " |", " and " + _words(rng)))
    headline = " ".join(parts)
    if rng.random() < 0.25:
        ending = rng.choice(ENDINGS)
        headline += ending.format(
            name=_random_word(rng), year=rng.randint(1990, 2060), n=rng.randint(1, 999)
        )
    return Story(headline, thing, driver, sign)


def draw_answer(rng: Random, story: Story) -> str:
    """A forecast with the imperfections of the table at the top of this file."""
    thing = story.thing if rng.random() < 0.78 else rng.choice(OFF_TOPIC)
    follows = story.sign is not None and rng.random() < 0.6
    sign = story.sign if follows else rng.choice((1, -1))
    first = f"{thing} will {rng.choice(RISES if sign == 1 else FALLS)}"
    draw = rng.random()
    if draw < 0.75:
        first += f" {rng.choice(SIZES)}%"
    elif draw < 0.82:
        first += f" {rng.choice(BIG)}%"
    draw = rng.random()
    if draw < 0.65:
        first += f" {rng.choice(TIGHT)}"
    elif draw < 0.85:
        first += f" {rng.choice(VAGUE)}"
    draw = rng.random()
    if draw < 0.9:
        copied = story.driver is not None and draw < 0.52
        driver = story.driver if copied else rng.choice(GENERIC)
        first += f"{rng.choice(LINKS)} {driver}"
        if rng.random() < 0.85:
            first += f" and {rng.choice(SECONDS)}"
    draw = rng.random()
    if draw < 0.6:
        concrete = rng.choice(CONCRETE)
        named = thing.removeprefix("The ").removeprefix("A ")
        return f"{first}. {concrete.format(thing=named, weekday=rng.choice(WEEKDAYS))}"
    if draw < 0.8:
        return f"{first}. {rng.choice(UNCLEAR)}"
    return f"{first}."


def _noun_phrase(rng: Random) -> str:
    """One to four words that open a free-form headline."""
    a, b = _random_word(rng), _random_word(rng)
    noun, other = rng.choice(NOUNS), rng.choice(NOUNS)
    adjective, organisation = rng.choice(ADJECTIVES), rng.choice(ORGANISATIONS)
    phrase = rng.choice(
        (
            f"{adjective} {noun}",
            f"{a} {noun}",
            f"{a} {b}",
            f"{a} {b} {noun}",
            f"{organisation} {noun}",
            f"{organisation} {a}",
            f"{rng.choice(SUBJECT_ROLES)} {a} {b}",
            f"the {adjective} {noun}",
            f"a {noun} {other}",
            f"{rng.randint(2, 900)} {adjective} {noun}",
            f"{organisation}{rng.choice('’' + chr(39))}s {adjective} {noun}",
            f"{a}{rng.choice('’' + chr(39))}s {noun}",
            f"{a} and {b}",
            f"{a}, {b} and {noun}",
            f"{adjective}-{noun} {a}",
            f"‘{a} {noun}’",
            f"“{adjective} {noun}”",
            a,
            organisation,
        )
    )
    return phrase[0].upper() + phrase[1:] if rng.random() < 0.9 else phrase


def _words(rng: Random) -> str:
    words = [
        rng.choice(
            (rng.choice(NOUNS), rng.choice(ADJECTIVES), rng.choice(NOUNS), _random_word(rng))
        )
        for _ in range(rng.choice((1, 2, 2, 3, 4)))
    ]
    if rng.random() < 0.3:
        words.insert(rng.randrange(len(words)), rng.choice(("the", "a", "its", "and", "of", "new")))
    return " ".join(word.title() if rng.random() < 0.2 else word for word in words)


def _reason(rng: Random) -> str:
    if rng.random() < 0.3:
        domain = rng.choice(sorted(DRIVERS))
        return rng.choice(DRIVERS[domain][rng.choice((1, -1))])
    words = [rng.choice((rng.choice(ADJECTIVES), _random_word(rng))), rng.choice(REASON_NOUNS)]
    if rng.random() < 0.3:
        words.insert(1, rng.choice(NOUNS))
    return " ".join(words)


def _random_word(rng: Random) -> str:
    """A word the tokenizer is likely to cut into pieces."""
    draw = rng.random()
    if draw < 0.3:
        return draw_name(rng)
    if draw < 0.55:
        word = "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 9)))
        return word.capitalize() if rng.random() < 0.6 else word
    if draw < 0.75:
        stem = rng.choice(rng.choice((NOUNS, ADJECTIVES, VERBS, ORGANISATIONS)))
        cut = stem[: rng.randint(2, 7)] + rng.choice(NOUNS)[rng.randint(0, 3) :]
        return cut.capitalize() if rng.random() < 0.6 else cut
    if draw < 0.83:
        return "".join(rng.choice(string.ascii_uppercase) for _ in range(rng.randint(2, 5)))
    if draw < 0.9:
        return f"{rng.choice(string.ascii_uppercase)}{rng.randint(1, 99)}"
    if draw < 0.95:
        return f"{draw_name(rng)}{rng.choice('-&/.')}{draw_name(rng)}"
    return rng.choice(("É", "ø", "ü", "ñ", "Š")) + draw_name(rng).lower()


def write_tokenizer(folder: Path, rng: Random) -> None:
    """Byte-level BPE on invented text, with Qwen's control tokens as added tokens only."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    text = [part for _ in range(12_000) for part in draw_example(rng)]
    text += [SYSTEM, USER, "system user assistant\n\n"] * 200
    text += [" ".join(ADJECTIVES + NOUNS + VERBS + ORGANISATIONS)] * 5
    tokenizer.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        ),
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in THINKING])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token in SPECIAL,
        }
        for token in SPECIAL + THINKING
    }
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "added_tokens_decoder": added,
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
            "bos_token": None,
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "model_max_length": CONFIG["max_position_embeddings"],
            **names,
        },
    )
    _write_json(folder / "special_tokens_map.json", names)


def train(folder: Path, *, seed: int) -> None:
    """Train from random weights and write config.json, generation_config.json and the weights."""
    rng = Random(seed)
    mx.random.seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    pad = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    config = CONFIG | {"vocab_size": len(tokenizer), "bos_token_id": pad, "eos_token_id": end}
    model = Model(ModelArgs.from_dict(config))
    mx.eval(model.parameters())

    total = sum(phase.steps for phase in PHASES)
    rate = optim.join_schedules(
        [
            optim.linear_schedule(0.0, PEAK_RATE, WARMUP),
            optim.cosine_decay(PEAK_RATE, total - WARMUP, PEAK_RATE / 50),
        ],
        [WARMUP],
    )
    optimiser = optim.AdamW(rate, betas=[0.9, 0.98], weight_decay=0.02)
    loss_and_gradient = nn.value_and_grad(model, _answer_loss)
    makers = _example_makers(tokenizer, end=end, size=len(tokenizer) - len(SPECIAL + THINKING))
    started = time.perf_counter()
    step, recent = 0, []
    for phase in PHASES:
        for ids, targets in _batches(rng, makers[phase.name], steps=phase.steps, pad=pad):
            loss, gradient = loss_and_gradient(model, ids, *targets)
            gradient, _ = optim.clip_grad_norm(gradient, 1.0)
            optimiser.update(model, gradient)
            mx.eval(loss, model.parameters(), optimiser.state)
            step += 1
            recent = [*recent[-19:], loss.item()]
            if step % 20 == 0:
                seconds = time.perf_counter() - started
                mean = sum(recent) / len(recent)
                print(f"{phase.name} {step}/{total}  loss {mean:.3f}  {seconds:.0f} s", flush=True)

    mx.save_safetensors(
        str(folder / "model.safetensors"),
        dict(tree_flatten(model.parameters())),
        metadata={"format": "mlx"},
    )
    _write_json(folder / "config.json", config)
    _write_json(
        folder / "generation_config.json",
        {"bos_token_id": pad, "eos_token_id": [end, pad], "pad_token_id": pad, "do_sample": True},
    )


def print_samples(folder: Path, *, seed: int, count: int = 6) -> None:
    """Print sampled forecasts for fresh headlines, through plain `mlx_lm.load`."""
    from mlx_lm import generate, load
    from mlx_lm.sample_utils import make_sampler

    model, tokenizer = load(str(folder))
    encoder = make_prompt_encoder(tokenizer._tokenizer)
    rng = Random(seed + 1)
    for number in range(count):
        story = draw_world_story(rng) if number % 2 == 0 else draw_free_story(rng)
        prompt = list(encoder.encode(story.headline))
        answer = generate(model, tokenizer, prompt, max_tokens=120, sampler=make_sampler(0.8))
        print(f"\n{story.headline}\n  -> {answer}")


Maker = Callable[[Random], tuple[list[int], list[int]]]
"""draws a context and the answer that follows it, as token ids"""


def _example_makers(tokenizer: Any, *, end: int, size: int) -> dict[str, Maker]:
    encoder = make_prompt_encoder(tokenizer)

    def answer_ids(answer: str) -> list[int]:
        return [*tokenizer.encode(answer, add_special_tokens=False), end]

    known = 60.0

    def copy(rng: Random) -> tuple[list[int], list[int]]:
        nonlocal known
        known = min(size, known * 1.025 ** (1 / BATCH))
        ids = [rng.randrange(int(known)) for _ in range(12)]
        gaps = [[rng.randrange(int(known)) for _ in range(rng.randint(0, 3))] for _ in range(2)]
        return [*ids, *gaps[0], *ids[:2]], [*ids[2:], *gaps[1], *ids, end]

    def bare(rng: Random) -> tuple[list[int], list[int]]:
        headline, answer = draw_example(rng)
        ids = encoder.encode(headline)[len(encoder.prefix) : -len(encoder.suffix)]
        return [*encoder.prefix[-2:], *ids, *encoder.suffix[-2:]], answer_ids(answer)

    def prompt(rng: Random) -> tuple[list[int], list[int]]:
        headline, answer = draw_example(rng)
        return list(encoder.encode(headline)), answer_ids(answer)

    return {"copy": copy, "bare": bare, "prompt": prompt}


def _batches(
    rng: Random, make: Maker, *, steps: int, pad: int
) -> Iterator[tuple[mx.array, tuple[mx.array, mx.array]]]:
    """Batches of examples of similar length: ids (B, T), then answer positions and tokens (N,)."""
    pool: list[list[tuple[list[int], list[int]]]] = []
    for _ in range(steps):
        if not pool:
            drawn = sorted(
                (make(rng) for _ in range(BATCH * 8)), key=lambda pair: len(pair[0] + pair[1])
            )
            pool = [drawn[n : n + BATCH] for n in range(0, len(drawn), BATCH)]
            rng.shuffle(pool)
        batch = pool.pop()
        length = max(len(context + answer) for context, answer in batch)
        ids = np.full((BATCH, length), pad, dtype=np.int32)
        positions: list[int] = []
        tokens: list[int] = []
        for row, (context, answer) in enumerate(batch):
            ids[row, : len(context + answer)] = context + answer
            first = row * length + len(context) - 1
            positions += range(first, first + len(answer))
            tokens += answer
        yield mx.array(ids), (mx.array(positions), mx.array(tokens))


def _answer_loss(model: Model, ids: mx.array, positions: mx.array, tokens: mx.array) -> mx.array:
    """Mean cross-entropy of the answer tokens; a row's padding follows its answer, unseen."""
    hidden = model.model(ids)
    chosen = hidden.reshape(-1, hidden.shape[-1])[positions]  # (N, D)
    return nn.losses.cross_entropy(
        model.model.embed_tokens.as_linear(chosen), tokens, reduction="mean"
    )


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tiny policy.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "data/tiny-policy")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_tokenizer(args.out, Random(args.seed))
    train(args.out, seed=args.seed)
    print_samples(args.out, seed=args.seed)


if __name__ == "__main__":
    main()
