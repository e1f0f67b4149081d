"""`make dist`: build wheel and sdist into dist/, and try the wheel in a new environment. It takes minutes, because pip installs torch."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from palate import __version__
from tests.distribution import build, contents, install, try_out, wheel_of_sdist
from tests.support.repository import ROOT


def main() -> int:
    """Return the exit status."""
    out = ROOT / "dist"
    shutil.rmtree(out, ignore_errors=True)
    made = build(out)
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / "again"
        again.mkdir()
        if contents(wheel_of_sdist(made.sdist, again)) != contents(made.wheel):
            sys.stderr.write("the sdist lacks something that the wheel holds; see `tool.hatch.build.targets.sdist` in pyproject.toml\n")
            return 1
        try_out(install(made.wheel, Path(folder), is_shared=False), __version__, with_torch=True, say=print)
    sys.stdout.write(f"ready: {made.wheel} and {made.sdist}\n")
    if f"\n## {__version__} - unreleased\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        sys.stdout.write("CHANGELOG.md calls this version unreleased. See docs/releasing.md before you upload anything.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
