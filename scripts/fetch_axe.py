"""Bring axe-core, the accessibility checker of the browser tests, to a folder that git ignores.

    python scripts/fetch_axe.py

One version, whose package must have the sha512 that is written here. npm asks the registry that it
is set up for; nothing of the package is run, and only its one script is kept.
"""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
"""of the package, as the registry's `dist.integrity` has it"""
AXE = Path(__file__).resolve().parent.parent / "build" / f"axe-{VERSION}.min.js"


def main() -> int:
    if AXE.exists():
        return 0
    npm = shutil.which("npm")
    if npm is None:
        print("NOT FETCHED: axe-core; npm is not installed here (Debian: apt-get install npm)",
              file=sys.stderr)  # fmt: skip
        return 1
    with tempfile.TemporaryDirectory(prefix="varro-axe-") as folder:
        command = [npm, "pack", "--silent", "--ignore-scripts", f"axe-core@{VERSION}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            print(f"NOT FETCHED: axe-core {VERSION}: {done.stderr.strip()}", file=sys.stderr)
            return 1
        script = checked_script((Path(folder) / done.stdout.split()[-1]).read_bytes())
    AXE.parent.mkdir(exist_ok=True)
    half = AXE.with_suffix(".half")
    half.write_bytes(script)
    half.replace(AXE)
    print(f"axe-core {VERSION}: {AXE}")
    return 0


def checked_script(package: bytes) -> bytes:
    """`axe.min.js` of a package.  Raises: SystemExit if it is another package than is known."""
    found = base64.b64encode(hashlib.sha512(package).digest()).decode()
    if found != SHA512:
        raise SystemExit(f"axe-core {VERSION}: expected sha512-{SHA512}, found sha512-{found}: "
                         "nothing of it is used")  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(package)) as tar:
        member = tar.extractfile("package/axe.min.js")
        assert member is not None
        return member.read()


if __name__ == "__main__":
    sys.exit(main())
