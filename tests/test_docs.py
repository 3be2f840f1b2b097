"""The documents keep up with the code."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_readme_names_every_command():
    """Catches a verb that nobody documented, and a documented one that is gone."""
    from varro.cli import app, config_app
    from varro.cli_feeds import feeds_app

    def names(typer_app):
        return {
            c.name or c.callback.__name__.replace("_", "-") for c in typer_app.registered_commands
        }

    documented = set(re.findall(r"`(?:varro )?([a-z]+(?:-[a-z]+)*)(?: [^`]*)?`", read("README.md")))
    assert names(app) <= documented
    (listed,) = re.findall(r"^\| (`varro feeds list`.*?) \|", read("README.md"), re.MULTILINE)
    shown = set(re.findall(r"`varro feeds ([a-z]+)", read("README.md")))
    assert names(feeds_app) == shown | set(re.findall(r"`([a-z]+)`", listed))
    assert "`varro config show`" in read("README.md") and names(config_app) == {"show"}


def test_the_operators_page_calls_what_there_is():
    """Catches a runbook whose commands are gone: it is read when something is wrong."""
    from varro.cli import app

    told = read("docs/operating.md")
    verbs = {c.name or c.callback.__name__.replace("_", "-") for c in app.registered_commands} | {
        group.name for group in app.registered_groups
    }
    called = set(re.findall(r"(?:`|'|^|not )varro ([a-z][a-z-]+)", told, re.MULTILINE))
    assert {"backup", "pause", "restore", "rollback", "schedule", "serve"} <= called <= verbs
    for name in ("alerts", "checkpoints", "guard", "memory", "news", "schedule"):
        keys = set(re.findall(rf"`{name}\.([a-z_]+)[` ]", told)) - {"log"}  # alerts.log is a file
        assert keys <= set(defaults(name))


def defaults(section):
    from varro.config import Config

    return Config.model_fields[section].annotation.model_fields


def test_the_readme_names_every_exit_code():
    """Catches an error class whose code is not in the table."""
    from varro import errors

    codes = {
        c.exit_code
        for c in vars(errors).values()
        if isinstance(c, type) and issubclass(c, errors.VarroError)
    }
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", read("README.md"), re.MULTILINE)}
    assert codes | {errors.DEGRADED} <= table


def test_documented_make_targets_and_files_exist():
    """Catches a README that sends its reader nowhere."""
    makefile = read("Makefile")
    for name in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"make ([a-z-]+)", read(name)):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        for path in re.findall(r"\]\(([^)#:]+)\)", read(name)):
            assert (ROOT / path).exists(), path


def test_documents_lead_somewhere():
    """Catches a page in docs/ whose link is broken, and one that nothing leads to."""
    pages = sorted((ROOT / "docs").glob("*.md"))
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    linked = set()
    for page, text in [(ROOT / "README.md", read("README.md")), *texts.items()]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            found = (page.parent / target).resolve()
            assert found.exists(), f"{page.name}: {target}"
            linked.add(found)
    assert set(pages) <= linked


def test_the_page_of_metrics_is_the_table():
    """Catches a definition that was changed in one of the two."""
    page = runpy.run_path(str(ROOT / "scripts" / "build_metrics_doc.py"))["page"]()
    assert page == read("docs/metrics.md"), "run scripts/build_metrics_doc.py"


def test_dependencies_are_pinned():
    """Catches a fresh machine with other versions than were tested, or gigabytes of CUDA."""
    lines = read("constraints.txt").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    pins = dict(line.split("==") for line in lines)
    pinned = {name.lower().replace("_", "-") for name in pins}
    project = tomllib.loads(read("pyproject.toml"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.match(r"[A-Za-z0-9_.-]+", line).group().lower() for line in wanted}
    assert names <= pinned
    assert pins["torch"] == "2.13.0"


def test_the_change_log_speaks_of_this_version():
    """Catches a release without a word."""
    from varro import __version__

    assert f"## {__version__}" in read("CHANGELOG.md")
