"""The essay's runs as recipes: each loads, says what is known of it, and differs from the rest."""

import re
from pathlib import Path

import pytest

from varro.config import load_config

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
RECIPES = sorted((CONFIGS / "recipes").glob("*.toml"))

# name: temperature, format weight, quality, zeros, leak, words, "KL" (None: not kept).
RUNS = {
    "NEWCOMPOSITERUN": (0.7, 0.05, "0.462", "0.100", "0.693", "124.5", "9.26"),
    "NEWCOMPOSITERUN2": (0.7, 0.10, "0.242", "0.432", "0.708", "120.8", "4.79"),
    "SEMANTICRUN": (0.7, 0.20, "0.441", "0.116", "0.708", "123.8", "9.23"),
    "SEMANTICRUN_TIGHT_Q25": (0.5, 0.25, "0.643", "0.013", "0.200", "129.2", "7.32"),
    "SEMANTICRUN_TIGHT_Q25_ARTICLES": (0.5, 0.25, "0.527", "0.164", "0.218", "128.1", None),
}
SAMPLERS = {
    0.7: "temperature 0.7, top_p 0.90, top_k 50",
    0.5: "temperature 0.5, top_p 0.85, top_k 50",
}


def comment_of(path):
    """The text of the comment that a recipe begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return " ".join(line.lstrip("# ") for line in lines[:end])


def test_the_five_runs_are_there():
    """Catches a recipe that is lost, or is stored under another run's name."""
    assert {p.stem.upper() for p in RECIPES} == set(RUNS)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_the_run_it_is_named_after(path):
    """Catches weights or a temperature that are not the run's, and files nobody else has."""
    config = load_config(path)
    temperature, format_weight, *_ = RUNS[path.stem.upper()]
    assert config.run.name == path.stem.upper()
    assert config.reward.kind == "similarity"
    assert config.reward.format_weight == pytest.approx(format_weight)
    assert config.reward.semantic_weight == pytest.approx(1 - format_weight)
    assert config.sampling.temperature == temperature
    assert config.sampling.n_forecasts == 8
    embedded = load_config(CONFIGS / "embedded.toml")
    assert config.news.archive == embedded.news.archive and config.news.archive.exists()
    assert config.policy == embedded.policy and Path(config.policy.model).exists()
    assert config.home == embedded.home
    for section in ("update", "leash", "guard"):
        assert getattr(config, section) == getattr(embedded, section), section


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_is_known_and_what_is_not(path):
    """Catches a recipe that passes for a reproduction."""
    comment = comment_of(path)
    temperature, format_weight, quality, zeros, leak, words, kl = RUNS[path.stem.upper()]
    known, unknown, otherwise = re.split(r"Not known:|Varro does otherwise:", comment)
    assert f"run {path.stem.upper()}," in known
    for figure in (f"Quality {quality}", f"zeros {zeros}", f"leak {leak}", f"{words} words"):
        assert figure in known
    assert (f'the "KL" of {kl} is the mean loss' in known) == (kl is not None)
    assert SAMPLERS[temperature] in known
    assert f"{format_weight:.2f}" in known
    assert "never reached the gradient" in known
    assert "the true KL" in unknown
    for word in ("untruncated", "GSPO", "measured KL", "five beats", "tiny"):
        assert word in otherwise


def test_no_two_recipes_are_the_same_run():
    """Catches a copy with another name: names are no part of a run's identity."""
    hashes = {load_config(path).identity_hash() for path in RECIPES}
    assert len(hashes) == len(RECIPES)
