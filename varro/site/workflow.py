"""The workflow with which GitHub Pages shows a site that is committed to a repository."""

from __future__ import annotations

import json
from pathlib import Path

_WORKFLOW = """\
# Shows the folder that `varro publish` writes. Commit and push it each morning: the history of
# this repository is then the witness of when a forecast was published. In the repository's
# settings, Pages has to be set to "GitHub Actions" once.
name: pages
on:
  push:
    branches: [main]
    paths: [{paths}]
  workflow_dispatch:
permissions:
  contents: read
  pages: write
  id-token: write
concurrency:
  group: pages
  cancel-in-progress: false
jobs:
  deploy:
    runs-on: ubuntu-latest
    environment:
      name: github-pages
      url: ${{{{ steps.deployment.outputs.page_url }}}}
    steps:
      - uses: actions/checkout@v4
      - uses: actions/configure-pages@v5
      - uses: actions/upload-pages-artifact@v3
        with:
          path: {path}
      - id: deployment
        uses: actions/deploy-pages@v4
"""


def pages_workflow(folder: Path) -> str:
    """The workflow's text, for a site in `folder` of the repository."""
    path = folder.as_posix().rstrip("/")
    return _WORKFLOW.format(paths=json.dumps(f"{path}/**"), path=json.dumps(path))
