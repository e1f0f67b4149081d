"""Run the parts one after another, each in its own process with its own time limit, and write each result as soon as it is there.

`python -m benchmarks.gpu --out FOLDER`; `benchmarks/gpu/run.sh` is the same for a bare machine. `FOLDER/results.json` has every number, and
`FOLDER/table.md` the same as tables. A part that fails or is cut off leaves the results that it had, and a line that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.report import table
from benchmarks.gpu.results import FOLDER, MARK, TINY

SECONDS = {"device": 140, "limits": 70, "training": 150, "sampling": 70, "online": 100}
"""The parts in their order, and the longest that each may take."""
ALL_SECONDS = 530
PATIENCE = 60
"""How many times longer a rehearsal may take: it measures nothing, and the machine may be busy."""


def main() -> int:
    """Return 0 where every part finished, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder of the results")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on the CPU: a rehearsal that measures nothing")
    parser.add_argument("--parts", nargs="+", choices=tuple(SECONDS), default=list(SECONDS))
    parser.add_argument("--seconds", type=float, help=f"the longest that all parts may take [default: {ALL_SECONDS}]")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    patience = PATIENCE if options.tiny else 1
    seconds = ALL_SECONDS * patience if options.seconds is None else options.seconds
    began = time.monotonic()
    found: dict[str, Any] = {"machine": machine(), "tiny": options.tiny, "parts": {}}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, FOLDER: folder, TINY: "1" if options.tiny else ""}
        for part in options.parts:
            left = seconds - (time.monotonic() - began)
            found["parts"][part] = {"how": "no time was left", "seconds": 0.0, "results": []}
            if left > 5:
                run(part, min(left, SECONDS[part] * patience), environment, found, options.out)
            written(found, options.out)
            print(f"{part}: {found['parts'][part]['how']} after {found['parts'][part]['seconds']:.0f} s", flush=True)
    print("\n" + table(found))
    return 0 if all(part["how"] == "done" for part in found["parts"].values()) else 1


def run(part: str, seconds: float, environment: dict[str, str], found: dict[str, Any], out: Path) -> None:
    """Run a part, and put what it finds into `found` and the files as it comes."""
    began = time.monotonic()
    own = found["parts"][part]
    own["how"] = f"cut off after {seconds:.0f} s"
    with (out / f"{part}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.gpu.{part}"],
            stdout=subprocess.PIPE, stderr=log, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        clock = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))  # with the processes that it started
        clock.start()
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            if line.startswith(MARK):
                own["results"].append(json.loads(line.removeprefix(MARK)))
                own["seconds"] = time.monotonic() - began
                written(found, out)
        code = process.wait()
        clock.cancel()
    own["seconds"] = time.monotonic() - began
    if code == 0:
        own["how"] = "done"
    elif own["seconds"] < seconds:
        last = (out / f"{part}.log").read_text(encoding="utf-8").strip().splitlines()[-1:]
        own["how"] = f"failed: {''.join(last)[:300]}"


def machine() -> dict[str, Any]:
    """Return what the results depend on, as a process of its own finds it: this one holds nothing on the GPU."""
    code = (
        "import importlib.metadata, json, torch\n"
        "gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None\n"
        "print(json.dumps({'torch': torch.__version__, 'cuda': torch.version.cuda, 'gpu': gpu,"
        " 'transformers': importlib.metadata.version('transformers')}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(), **json.loads(done.stdout)}


def written(found: dict[str, Any], out: Path) -> None:
    """Write both files, each by a rename."""
    for name, text in (("results.json", json.dumps(found, indent=1) + "\n"), ("table.md", table(found))):
        new = out / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        new.replace(out / name)


if __name__ == "__main__":
    sys.exit(main())
