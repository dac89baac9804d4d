#!/bin/sh
# What is asked of a GPU, in one command; it needs no network, but a Python with torch and a folder of wheels:
#
#     benchmarks/gpu.sh WHEELS [--out DIR] [--weights FOLDER] [--only PART] [--limit SECONDS]
#
# The wheels are unpacked into a folder that goes away, and benchmarks/gpu.py does the rest. PYTHON names another Python.
set -eu
if [ $# -eq 0 ] || [ ! -d "$1" ]; then
    echo "usage: $0 WHEELS [OPTION]...; WHEELS is a folder, made by: python3 -m pip wheel --no-deps -w WHEELS . plugins/*/" >&2
    exit 2
fi
wheels=$1
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
find "$wheels" -maxdepth 1 -type f -name '*.whl' -exec "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps \
    --no-compile --target "$site" {} +
PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} "$python" "$(dirname "$0")/gpu.py" "$@"
