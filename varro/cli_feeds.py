"""`varro feeds …`: the list of feeds, tried out and watched."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from varro.cli_options import (
    ConfigOption,
    HomeOption,
    JsonOption,
    SetOption,
    print_result,
    resolve_config,
)
from varro.errors import ConfigError

feeds_app = typer.Typer(help="The list of feeds: change it, try one out, see how each has been.",
                        no_args_is_help=True)  # fmt: skip


@feeds_app.command("list")
def list_feeds(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """The feeds on the list, by category; addresses without their query, which may hold a key.

    Example: varro feeds list --config configs/live.toml
    """
    from varro.news.clean import shown_address
    from varro.news.opml import load_opml
    from varro.service.feeds import list_path

    feeds = load_opml(list_path(resolve_config(config, overrides)))
    rows = [{"name": f.name, "url": shown_address(f.url), "category": f.category} for f in feeds]
    lines = [(row["category"], row["name"], row["url"]) for row in rows]
    print_result(as_json, {"feeds": rows}, _columns(lines))


@feeds_app.command()
def add(
    url: Annotated[str, typer.Argument(help="Address of an RSS or Atom feed.")],
    name: Annotated[str, typer.Option(help="What it is called; default its host.")] = "",
    category: Annotated[str, typer.Option(help="Such as world/asia.")] = "",
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Put a feed on the list. It is not fetched: see 'varro feeds test'.

    Example: varro feeds add https://www.aljazeera.com/xml/rss/all.xml --category world
    """
    from varro.news.clean import shown_address
    from varro.news.feed_list import add_feeds, new_feed
    from varro.service.feeds import list_path

    path = list_path(resolve_config(config, overrides))
    feed = new_feed(url, name=name, category=category)
    added = add_feeds(path, [feed])
    print(
        f"{'added' if added else 'is on the list already'}: {feed.name}, {shown_address(feed.url)}"
    )


@feeds_app.command()
def remove(
    which: Annotated[str, typer.Argument(help="Name or address of a feed on the list.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Take a feed off the list. What it brought stays in the ledger.

    Example: varro feeds remove "BBC World"
    """
    from varro.news.clean import shown_address
    from varro.news.feed_list import remove_feed
    from varro.service.feeds import list_path

    feed = remove_feed(list_path(resolve_config(config, overrides)), which)
    print(f"removed: {feed.name}, {shown_address(feed.url)}")


@feeds_app.command()
def test(
    url: Annotated[str | None, typer.Argument(help="Address, or name on the list.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Parse every file under a folder instead.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch and parse one feed and show what a day would take of it; stores nothing.

    Example: varro feeds test https://feeds.bbci.co.uk/news/world/rss.xml
    """
    from varro.news.clean import clean_label
    from varro.service.feeds import try_feed, try_folder

    if (url is None) == (folder is None):
        raise ConfigError("name either the address of a feed or a folder with --dir")
    resolved = resolve_config(config, overrides)
    if folder is not None:
        max_bytes = int(resolved.news.max_feed_mb * 1e6)
        found = try_folder(folder, max_bytes=max_bytes)
        rows = [
            (r["status"], str(r["entries"]), clean_label(r["path"]), r["reason"]) for r in found
        ]
        print_result(as_json, {"feeds": found}, _columns(rows))
        return
    assert url is not None
    facts = try_feed(resolved, url, as_of=datetime.now(UTC))
    left_out = "".join(f", {n} left out: {why}" for why, n in facts["left_out"].items())
    head = (
        f"{facts['feed']}: {facts['entries']} items, {facts['untitled']} without a title"
        f"{left_out}, in {facts['seconds']:.1f} s"
        + (f"\nhas moved for good to {facts['moved_to']}" if facts["moved_to"] else "")
    )
    print_result(as_json, facts, "\n".join([head, *(f"  {title}" for title in facts["titles"])]))


@feeds_app.command("import")
def import_opml(
    file: Annotated[Path, typer.Argument(help="OPML file of another reader.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Add the feeds of an OPML file that are not on the list yet, with their categories.

    One that can not be read is named and left out; one whose name is taken is numbered.

    Example: varro feeds import subscriptions.opml --config configs/live.toml
    """
    from varro.news.feed_list import add_feeds
    from varro.news.opml import foreign_feeds
    from varro.service.feeds import list_path

    path = list_path(resolve_config(config, overrides))
    feeds, wrong = foreign_feeds(file)
    added = add_feeds(path, feeds, rename=True)
    for fault in wrong:
        print(f"varro: left out: {fault}", file=sys.stderr)
    known = f", {n_known} on it already" if (n_known := len(feeds) - len(added)) else ""
    print(f"{len(added)} of {len(feeds) + len(wrong)} feeds added to {path}{known}")


@feeds_app.command("export")
def export_opml(
    file: Annotated[
        Path | None, typer.Argument(help="OPML file to write; default standard output.")
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """The list as OPML for another reader.

    Example: varro feeds export feeds.opml --config configs/live.toml
    """
    from varro.files import write_file
    from varro.news.feed_list import render_opml
    from varro.news.opml import load_opml
    from varro.service.feeds import list_path

    feeds = load_opml(list_path(resolve_config(config, overrides)))
    body = render_opml(feeds)
    if file is None:
        sys.stdout.write(body.decode())
        return
    try:
        write_file(file, body)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error
    print(f"{len(feeds)} feeds written to {file}")


@feeds_app.command()
def health(
    config: ConfigOption = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """How each feed has been, by the ledger: what came last, and since when it fails.

    Example: varro feeds health --config configs/live.toml
    """
    from varro.service.feeds import health_of, how_many

    found = health_of(resolve_config(config, overrides, home=home), now=datetime.now(UTC))
    counts = how_many(found)
    rows = [("status", "last good", "failures", "new", "feed", "")]
    rows += [
        (
            row["status"],
            row["last_good"] or "—",
            str(row["n_failures"]),
            "—" if row["n_new"] is None else str(row["n_new"]),
            row["feed"],
            "; ".join(
                filter(None, [row["reason"], row["moved_to"] and f"moved to {row['moved_to']}"])
            ),
        )
        for row in found
    ]
    told = ", ".join(f"{n} {standing}" for standing, n in counts.items())
    print_result(as_json, {"counts": counts, "feeds": found}, f"{_columns(rows)}\n{told}")


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
