#!/usr/bin/env bash
# The tests and the benchmark that need a GPU; their output and tables go into a folder.
#
#     bash studies/run_on_gpu.sh [folder]                      # by default out/gpu
#     GPU_PYTHON=python3 bash studies/run_on_gpu.sh [folder]   # in an environment of your own
#
# Without GPU_PYTHON, make creates .venv with the locked versions first, as for `make bench`; there
# pip chooses the build of PyTorch, which on Linux is one for CUDA. With it nothing is installed.
# GPU_MINUTES is the time of the benchmark, at most (default 7.5); the tests take less than another.
set -euo pipefail

folder=${1:-out/gpu}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${GPU_PYTHON:-}" ]; then
    make .venv/zoo/.installed .venv/peers/.installed
    GPU_PYTHON=$PWD/.venv/bin/python
fi
export PYTHONPATH="$PWD:$PWD/.venv/peers${PYTHONPATH:+:$PYTHONPATH}"

if ! "$GPU_PYTHON" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    echo "$GPU_PYTHON has no PyTorch that sees a CUDA device. Install a CUDA build:" \
        "https://pytorch.org/get-started/locally" >&2
    exit 1
fi

# The benchmark runs whether or not the tests pass; a failure of either is the script's.
status=0
"$GPU_PYTHON" -m pytest -q tests/test_gpu.py tests/studies/test_benchmark_cuda.py 2>&1 |
    tee "$folder/tests.txt" || status=$?
"$GPU_PYTHON" studies/benchmark.py --studies cuda --minutes "${GPU_MINUTES:-7.5}" --repeats 30 \
    --output "$folder" 2>&1 | tee "$folder/benchmark.txt" || status=$?
echo "Written to $folder: tests.txt, benchmark.txt, cuda.md, cuda.json"
exit "$status"
