"""A restorer in processes that were forked after it had been made or used: each way works, and none hangs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SETUP = """
import concurrent.futures, multiprocessing, os, signal, sys
import numpy as np, torch
from dagn_pre import Restorer
from dagn_pre.restorer import shared_restorer
torch.set_num_threads(2)
picture = np.random.default_rng(0).integers(0, 256, (160, 200, 3), np.uint8)
options = dict(model=sys.argv[1], device="cpu", max_quality=None)
restorer = Restorer(**options)
expected = int(restorer(picture).sum())  # by two threads
fork = multiprocessing.get_context("fork")
def restore(_):
    return int(restorer(picture).sum())
def quality(_):
    return restorer.estimate_quality(picture).value
def fresh(_):
    return int(Restorer(**options)(picture).sum())
def shared(_):
    return int(shared_restorer(**options)(picture).sum())
def tensors(_):
    return int(restorer(torch.from_numpy(picture).permute(2, 0, 1)).sum())
"""
WAYS = {
    "a pool": "with fork.Pool(2) as pool: print(set(pool.map(restore, range(3))) == {expected})",
    "a pool, quality": "with fork.Pool(2) as pool: print(set(pool.map(quality, range(2))) == {quality(0)})",
    "a pool, a restorer of its own": "with fork.Pool(1) as pool: print(pool.map(fresh, range(1)) == [expected])",
    "a pool, the shared restorer": "shared(0)\nwith fork.Pool(1) as pool: print(pool.map(shared, range(1)) == [expected])",
    "a pool, tensors": "with fork.Pool(1) as pool: print(pool.map(tensors, range(1)) == [expected])",
    "an executor": (
        "with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as pool:\n"
        "    print(list(pool.map(restore, range(2))) == [expected] * 2)"
    ),
    "os.fork": (
        "child = os.fork()\n"
        "if not child: os._exit(0 if restore(0) == expected else 1)\n"
        "print(os.waitpid(child, 0)[1] == 0)"
    ),
    "a fork of a fork": (
        "def inner(_):\n"
        "    with fork.Pool(1) as pool: return pool.map(restore, range(1))\n"
        "with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as pool:\n"
        "    print(list(pool.map(inner, range(1))) == [[expected]])"
    ),
    "the parent afterwards": (
        "with fork.Pool(1) as pool: pool.map(restore, range(1))\n"
        "print(restore(0) == expected and torch.get_num_threads() == 2)"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_restoring_in_a_forked_process_works(tiny_weights, way):
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    code = SETUP + WAYS[way]
    run = subprocess.run(
        [sys.executable, "-c", code, str(tiny_weights)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert run.stdout.strip() == "True", run.stderr


BUILT = {  # in the parent, where nothing is called
    "a restorer": "made = Restorer(**options)\ndef use(_): return made(picture).shape",
    "a network": "networks = models.load(sys.argv[1])\ndef use(_): return Restorer(**options)(picture).shape",
    "a network to count": "networks = models.network('dagn-s')\ndef use(_): return Restorer(**options)(picture).shape",
    "an encoder": (
        "made = SideInformationEncoder()\n"
        "def use(_): return len(made.encode(picture, 20)) > 0 and picture.shape"
    ),
}


@pytest.mark.parametrize("built", BUILT)
def test_what_was_made_and_not_used_works_in_a_forked_process(tiny_weights, built):
    """Making networks starts OpenMP's threads too, where there is more than one core."""
    code = (
        SETUP.split("restorer = ")[0] + "from dagn_pre import models\n"
        "from dagn_pre.side_information import SideInformationEncoder\n"
        f"{BUILT[built]}\n"
        "torch.ones(1 << 20).exp_()  # what a larger network's initialisation does\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool: print(pool.map(use, range(1)) == [picture.shape])"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    run = subprocess.run(
        [sys.executable, "-c", code, str(tiny_weights)], capture_output=True, text=True, env=environment, timeout=60
    )
    assert run.stdout.strip() == "True", run.stderr


def test_cuda_in_a_forked_process_is_refused(tiny_weights):
    code = SETUP + (
        "from dagn_pre.errors import UsageError\n"
        "restorer.device = torch.device('cuda')\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    try: restorer(picture)\n"
        "    except UsageError as error: os._exit(0 if 'forked' in str(error) else 1)\n"
        "    os._exit(1)\n"
        "print(os.waitpid(child, 0)[1] == 0)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tiny_weights)], capture_output=True, text=True, timeout=120)
    assert run.stdout.strip() == "True", run.stderr
