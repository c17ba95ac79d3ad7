#!/usr/bin/env bash
# Sets up .venv with everything that the demo, the benchmark and the tests need, in the versions of constraints.txt; with --fast
# what make test-fast needs, which is all but OpenMMLab: nothing is compiled.
# Run it again at any time: what is in place is kept. PYTHON=... chooses the interpreter for a new .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }
die() { printf '\nerror: %s\n' "$*" >&2; exit 1; }
ready() { say "Ready: source .venv/bin/activate"; exit; }

case "${1:-}" in
    "" | --fast) ;;
    *) die "unknown argument $1; there is --fast" ;;
esac

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null; }

if [ ! -x .venv/bin/python ]; then
    python=
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.10}; do
        if supported "$candidate"; then python=$candidate; break; fi
    done
    [ -n "$python" ] || die "no Python 3.10, 3.11 or 3.12 found (tried: ${PYTHON:-python3 python3.11 python3.12 python3.10});" \
        "install one and name it: make install PYTHON=/path/to/python3.11"
    say "Creating .venv with $("$python" --version)"
    "$python" -m venv .venv || { rm -rf .venv; die "cannot create .venv; on Debian: apt install python3-venv"; }
fi
supported .venv/bin/python || die ".venv holds $(.venv/bin/python --version), not Python 3.10 to 3.12; remove the folder and run again"

# mmcv is compiled in the environment (no build isolation), so the tools of the build must be there first.
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
install() { pip install --quiet --constraint constraints.txt --no-build-isolation "$@"; }

say "Build tools, torch and torchvision"
install setuptools wheel ninja
install torch torchvision

if [ "${1:-}" = --fast ]; then
    say "The rest, without OpenMMLab"
    install --editable '.[test]'
    ready
fi

build_mmcv() { MMCV_WITH_OPS=1 install "$@" onedl-mmcv; }
mmcv_loads() { .venv/bin/python -c 'import torch, mmcv._ext' 2>/dev/null; }

if ! mmcv_loads; then
    command -v "${CXX:-c++}" >/dev/null || die "compiling mmcv needs a C++ compiler; on Debian: apt install build-essential"
    .venv/bin/python -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        die "compiling mmcv needs the headers of Python; on Debian: apt install python3-dev"
    say "Compiling mmcv against the installed torch: about ten minutes on two cores, once"
    build_mmcv
    # pip may have taken a wheel from its cache that was built against another torch: that one does not load.
    if ! mmcv_loads; then
        say "The cached build of mmcv belongs to another torch: compiling it anew"
        build_mmcv --no-cache-dir --force-reinstall --no-deps
        mmcv_loads || die "mmcv was built but does not load: $(.venv/bin/python -c 'import torch, mmcv._ext' 2>&1 | tail -n 1)"
    fi
fi

say "The rest"
install --editable '.[dev]'

# The stack requires opencv-python, which wants libGL and GLib from the system although nothing here opens a window. The
# headless package of the same version holds the same cv2 without them; both own one folder, so the last one installed is used.
if ! .venv/bin/python -c 'import sys; from cv2 import version; sys.exit(not version.headless)' 2>/dev/null; then
    pip install --quiet --constraint constraints.txt --no-deps --force-reinstall opencv-python-headless
fi
.venv/bin/python -c 'import cv2' || die "OpenCV does not load; if a library is missing above: apt install libgl1 libglib2.0-0"
ready
