"""`python -m tests.sim SCENARIO`: a network of thousands of nodes in virtual time, and what was measured as
JSON. The same seed gives the same log of datagrams, whose digest is printed with the result."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """What is installed is what runs, not the tree that this was started in; sets of bytes have the same
    order in every run."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        os.execve(sys.executable, [sys.executable, "-P", __file__, *sys.argv[1:]], environment)  # noqa: S606
    sys.path.insert(0, str(HERE))
    from scenarios import SCENARIOS
    from world import World, to_stderr

    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("scenario", choices=sorted(SCENARIOS), help="what happens")
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--lookups", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loss", type=float, default=0.0, help="share of datagrams that get lost")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    asked = parser.parse_args()
    world = World(asked.seed, loss=asked.loss, progress=None if asked.quiet else to_stderr)
    result = SCENARIOS[asked.scenario](world, asked.servers, asked.lookups)
    command = {key: value for key, value in vars(asked).items() if key != "quiet"}
    print(json.dumps({**command, **result, "cost": world.cost()}, indent=1))


if __name__ == "__main__":
    main()
