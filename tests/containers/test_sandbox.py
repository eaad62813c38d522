"""Peers inside one container, as its message of the day proposes."""

from __future__ import annotations

import pytest

from container_engine import FULL, NOTHING, SANDBOX, Engine
from container_networks import USER

PEERS = 4


@pytest.mark.parametrize("options", [FULL, (*NOTHING, *USER)], ids=["full", "user 1000"])
def test_peers_start_ping_each_other_and_end(engine: Engine, options: tuple[str, ...]) -> None:
    box = engine.start(SANDBOX, options, "sleep", "600")
    assert box.execute("wh-sandbox-test", check=False).returncode == 3
    spawned = box.execute("wh-sandbox-spawn", "2", seconds=120)
    assert "interface peer2, network sandbox, address 10.84.0.3" in spawned.stdout
    box.execute("wh-sandbox-spawn", str(PEERS), seconds=120)
    told = box.execute("wh-sandbox-test", check=False, seconds=300)
    assert told.returncode == 0, told.stdout + told.stderr
    pings = PEERS * (PEERS - 1) * 2
    assert told.stdout.splitlines()[-1] == f"{pings} of {pings} pings answered"
    box.execute("wh", "down", "peer2")
    assert box.execute("wh-sandbox-test", check=False, seconds=300).returncode == 0
    box.execute("wh-sandbox-spawn", "0")
    assert "peer" not in box.execute("wh", "show", "interfaces", check=False).stdout
    for words in ("", "x", "-1", "999", "1 2"):
        assert box.execute("sh", "-c", f"wh-sandbox-spawn {words}", check=False).returncode == 2
