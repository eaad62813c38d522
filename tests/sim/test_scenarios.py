"""The simulator as a tool: equal seeds give equal runs, whatever the order of Python's sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scenarios import SCENARIOS
from world import World, wilson

REPOSITORY = Path(__file__).parents[2]


def small_world(seed: int) -> str:
    world = World(seed)
    world.add_servers(25, 5.0)
    world.add_clients(2, 2.0)
    world.look_up(world.random_pairs(5, world.servers, world.servers))
    return world.network.log_digest


def test_the_same_seed_gives_the_same_log_of_datagrams():
    assert small_world(1) == small_world(1)
    assert small_world(1) != small_world(2)


def test_the_interval_of_a_share_holds_it():
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(299, 300)
    assert 0.98 < low < 299 / 300 < high < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_scenario_runs_and_says_what_it_measured(name):
    command = [sys.executable, "-m", "tests.sim", name, "--servers", "60", "--lookups", "20", "--quiet"]
    done = subprocess.run(command, cwd=REPOSITORY, env={**os.environ}, capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["scenario"] == name
    assert result["cost"]["log"]
