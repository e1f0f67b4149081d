#!/usr/bin/env bash
# Palate on one GPU: tests, speed and memory, in at most nine minutes. It needs no network. Results: gpu-results/results.json and table.md.
#
#     benchmarks/gpu/run.sh                  # everything
#     benchmarks/gpu/run.sh --tiny           # a rehearsal on the CPU, with tiny shapes
#     PYTHON=python3.12 WHEELS=folder benchmarks/gpu/run.sh --out folder
#
# WHEELS is a folder with wheels of packages that this Python lacks, such as pydantic; they are installed into a temporary folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python="${PYTHON:-python3}"
if [ -n "${WHEELS:-}" ]; then
    site="$(mktemp -d)"
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install -q --no-index --no-deps --target "$site" "$WHEELS"/*.whl
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
timeout 545 "$python" -m benchmarks.gpu "$@"
