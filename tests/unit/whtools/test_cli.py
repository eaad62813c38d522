"""`wh` as its users meet it: what it prints, where errors go, and with what it exits."""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import NETWORK, Wh
from fake_daemon import HEALTH, OWN_KEY, PEER_KEY, FakeDaemon
from msgspec import structs

from wh.errors import Code
from wh.ipc import client, schema
from wh.ipc.server import Progress
from wh.system.exit_codes import exit_code_of
from whcore import keys
from whtools import cli, completion
from whtools.application import COMMANDS, RESERVED

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "wirehub_keys.json").read_text())
HYPHEN_KEY = next(
    key
    for number in itertools.count()
    if (key := base64.urlsafe_b64encode(number.to_bytes(32, "little")).decode().rstrip("=")).startswith("-")
)
PEER_VERBS = ["lookup", "ping", "forget"]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WH_RUNDIR", str(tmp_path / "run"))
    monkeypatch.delenv("WH_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").write_text(NETWORK)
    return tmp_path


@pytest.fixture
def wh(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Wh:
    return Wh(capfd, monkeypatch)


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as running:
        yield running


def whole_process(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "whtools.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


# Filters


@pytest.mark.parametrize("vector", VECTORS["keys"][:4])
def test_keys_come_out_as_the_original_printed_them(wh: Wh, vector: dict[str, str]) -> None:
    assert wh("pubkey", stdin=vector["private_wg"] + "\n") == 0
    assert wh.out == vector["public_wh"] + "\n"
    assert wh("pubkey", "--wg", stdin=vector["private_wg"]) == 0
    assert wh.out == vector["public_wg"] + "\n"
    for namespace, count in dict(vector["workbit"]).items():
        assert wh("workbit", "namespace", namespace, stdin=vector["public_wh"]) == 0
        assert wh.out == f"{count}\n"
    for namespace, address in dict(vector["orchid_v1"]).items():
        assert wh("orchid", "namespace", namespace, "v1", stdin=vector["public_wh"]) == 0
        assert wh.out == address + "\n"


@pytest.mark.parametrize("vector", VECTORS["bucket_index"][:3])
def test_bid_takes_keys_as_words_or_from_standard_input(wh: Wh, vector: tuple[str, str, int]) -> None:
    first, second, index = vector
    assert wh("bid", first, second) == 0
    assert wh.out == f"{index}\n"
    assert wh("bid", first, "-", stdin=second) == 0
    assert wh.out == f"{index}\n"


def test_filters_take_a_key_with_a_leading_hyphen(wh: Wh) -> None:
    assert wh("bid", HYPHEN_KEY, HYPHEN_KEY) == 0
    assert wh.out == "256\n"
    assert wh("bid", HYPHEN_KEY + "=", PEER_KEY) == 0
    assert wh("workbit", stdin=HYPHEN_KEY) == 0
    assert wh("orchid", stdin=HYPHEN_KEY) == 0
    assert wh.out.startswith("2001:2")


def test_the_namespace_can_come_from_a_network_file(wh: Wh, environment: Path) -> None:
    (environment / "other").write_text("namespace test\n")
    vector = VECTORS["keys"][0]
    assert wh("workbit", "other", stdin=vector["public_wh"]) == 0
    assert wh.out == f"{vector['workbit']['test']}\n"
    assert wh("orchid", "other", "v1", stdin=vector["public_wh"]) == 0
    assert wh.out == f"{vector['orchid_v1']['test']}\n"


@pytest.mark.parametrize(
    ("arguments", "stdin", "code"),
    [
        (["pubkey"], "", 1),
        (["pubkey"], "A" * 44, 1),
        (["pubkey", "nonsense"], "", 2),
        (["workbit"], "\xff" * 50, 1),
        (["workbit", "missing"], OWN_KEY, 5),
        (["workbit", "net", "namespace", "x"], OWN_KEY, 2),
        (["bid", OWN_KEY], "", 2),
        (["bid", "-", "-"], OWN_KEY, 2),
        (["bid", OWN_KEY, OWN_KEY[:-1] + "~"], "", 1),
        (["orchid"], "x", 1),
    ],
)
def test_bad_input_is_one_clear_error(wh: Wh, arguments: list[str], stdin: str, code: int) -> None:
    assert wh(*arguments, stdin=stdin) == code
    assert wh.out == ""
    assert wh.err.startswith("wh: error WH1")


def test_a_filter_starts_without_click_and_other_slow_modules() -> None:
    ran = whole_process("pubkey", stdin=VECTORS["keys"][0]["private_wg"])
    assert ran.stdout == VECTORS["keys"][0]["public_wh"] + "\n"
    imported = {line.rsplit("|", 1)[-1].strip() for line in ran.stderr.splitlines()}
    assert "whcore.keys" in imported
    assert not imported & {
        "click",
        "argparse",
        "asyncio",
        "dataclasses",
        "json",
        "msgspec",
        "pathlib",
        "typing",
    }


def test_genkey_makes_the_work_that_was_asked_for(wh: Wh) -> None:
    assert wh("genkey", "workbit", "5", "namespace", "test", "threads", "1") == 0
    secret = keys.SecretKey.from_text(wh.out.removesuffix("\n"))
    assert len(wh.out) == 45
    assert keys.workbit(secret.public_key, b"test") >= 5
    assert wh("genkey", "net") == 0
    assert keys.workbit(keys.SecretKey.from_text(wh.out.strip()).public_key, b"public") >= 2
    assert wh("genkey", "net", "workbit", "3") == 2


# The grammar of every verb


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_in_each_way(wh: Wh, command: str) -> None:
    for arguments in ((command, "help"), (command, "--help"), ("help", command)):
        if arguments != ("help", "help"):
            assert wh(*arguments) == 0
            assert wh.out.startswith(f"Usage: wh {command}")


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in ("genkey", "run")])
def test_every_command_refuses_a_word_too_many(wh: Wh, command: str) -> None:
    assert wh(command, *["net"] * 5) == 2
    assert "WH130" in wh.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["pubky"], "pubkey"),
        (["shwo", "wh0"], "show"),
        (["up", "net", "private-kye", "x"], "private-key"),
        (["up", "net", "--listen-prot", "1"], "--listen-port"),
        (["up", "net", "mode", "dirct"], "direct"),
        (["show", "all", "lihgt"], "light"),
        (["help", "errrors"], "errors"),
        (["completion", "bsah"], "bash"),
    ],
)
def test_an_unknown_word_exits_2_and_names_the_nearest(wh: Wh, arguments: list[str], named: str) -> None:
    assert wh(*arguments) == 2
    assert f"did you mean {named}?" in wh.err


def test_a_peer_with_a_character_that_cannot_be_seen_is_explained(wh: Wh, daemon: FakeDaemon) -> None:
    for peer in (f"{PEER_KEY}\u200b", "node_b\r", "\ufeffnode_b"):
        assert wh("ping", "wh0", peer) == 2
        assert "which cannot be seen" in wh.err
    assert wh("bid", f"{PEER_KEY}\u200b", PEER_KEY) == 1
    assert "character 44 is U+200B, which cannot be seen" in wh.err
    assert wh("workbit", stdin=f"\ufeff{PEER_KEY}\r\n") == 0
    assert daemon.calls == []


@pytest.mark.parametrize("command", RESERVED)
def test_commands_of_the_original_that_are_not_here_say_so(wh: Wh, command: str) -> None:
    assert wh(command, "wh0", OWN_KEY) == 2
    assert f"wh {command} " in wh.err


@pytest.mark.parametrize("command", PEER_VERBS)
@pytest.mark.parametrize("key", [HYPHEN_KEY, HYPHEN_KEY + "="])
def test_network_commands_take_a_key_with_a_leading_hyphen(
    wh: Wh, daemon: FakeDaemon, command: str, key: str
) -> None:
    assert wh(command, "wh0", key) == 0
    assert daemon.calls == [(command, {"peer": key})]


def test_resolve_and_ipc_take_a_key_with_a_leading_hyphen(wh: Wh, daemon: FakeDaemon) -> None:
    assert wh("resolve", HYPHEN_KEY) == 0
    assert wh("ipc", "wh0", "resolve", json.dumps({"name": HYPHEN_KEY})) == 0
    assert daemon.calls == [("resolve", {"name": HYPHEN_KEY})] * 2


@pytest.mark.parametrize("command", ["down", "reload", "inspect", "show"])
def test_a_key_with_a_leading_hyphen_is_a_wrong_interface_not_an_option(wh: Wh, command: str) -> None:
    assert wh(command, HYPHEN_KEY) == exit_code_of(Code.BAD_INTERFACE_NAME)
    assert "is not an interface name" in wh.err


# Talking to daemons


def test_without_a_daemon_the_status_says_what_to_do(wh: Wh) -> None:
    assert wh() == 3
    assert wh.out == "no interface is up; start one with: wh up FILE\n"
    assert wh("show", "--json") == 3
    assert json.loads(wh.out) == []
    for arguments in (["down", "wh0"], ["ping", "wh0", "x"], ["reload", "all"], ["resolve", "x"]):
        assert wh(*arguments) == 3
        assert "wh up FILE" in wh.err


def test_show_lists_all_interfaces_or_one(wh: Wh, daemon: FakeDaemon) -> None:
    with FakeDaemon("wh1"):
        assert wh() == 0
        assert wh.out.count("network tutorial") == 2
        assert wh("show", "interfaces") == 0
        assert wh.out == "wh0\nwh1\n"
        assert wh("show", "all", "--json") == 0
        assert [status["pid"] for status in json.loads(wh.out)] == [1, 1]
    assert wh("show", "wh0", "all") == 0
    assert "listen port: 4242" in wh.out
    assert "\x1b" not in wh.out
    assert wh("show", "wh0", "json") == 0
    assert json.loads(wh.out)["peers"][0]["hostname"] == "node_b"
    assert wh("show", "wh9") == 3
    assert "running: wh0" in wh.err


def test_netcheck_tells_of_one_interface_or_all(wh: Wh, daemon: FakeDaemon) -> None:
    assert wh("netcheck") == 0
    assert "UDP: works" in wh.out
    assert "not direct: both NATs are random" in wh.out
    assert "\x1b" not in wh.out
    assert wh("netcheck", "wh0", "json") == 0
    assert json.loads(wh.out)["port_mappings"][0]["verified"] is True
    assert wh("netcheck", "all", "--json") == 0
    assert [check["interface"] for check in json.loads(wh.out)] == ["wh0"]
    assert wh("netcheck", "wh9") == 3
    assert "running: wh0" in wh.err


def test_netcheck_without_a_daemon_says_what_to_do(wh: Wh) -> None:
    assert wh("netcheck") == 3
    assert wh.out == "no interface is up; start one with: wh up FILE\n"
    assert wh("netcheck", "--json") == 3
    assert json.loads(wh.out) == []
    for which in ("wh0", "all"):
        assert wh("netcheck", which) == 3
        assert "wh up FILE" in wh.err


def test_health_is_the_exit_code(wh: Wh, daemon: FakeDaemon) -> None:
    assert wh("health") == wh("health", "wh0") == 0
    assert wh.out == "healthy: interface wh0, 1 public node known, 2 members, 1 direct, 0 relayed\n"
    assert wh("health", "json") == 0
    assert json.loads(wh.out)[0]["healthy"] is True
    assert wh("health", "wh9") == 3


def test_health_says_why_not(wh: Wh) -> None:
    assert wh("health") == 3
    assert "wh up FILE" in wh.err

    async def ill(arguments: schema.NoArguments, progress: Progress) -> schema.Health:
        problem = schema.HealthProblem("public-nodes", "no public node answers", "let UDP out")
        return structs.replace(HEALTH, healthy=False, problems=[problem])

    with FakeDaemon(handlers={"health": ill}):
        assert wh("health", "wh0") == 1
        assert wh.out.splitlines()[1:] == ["  no public node answers", "    fix: let UDP out"]
        assert wh("health", "wh0", "json") == 1
        assert json.loads(wh.out)["problems"][0]["kind"] == "public-nodes"


def test_inspect_is_json(wh: Wh, daemon: FakeDaemon) -> None:
    assert wh("inspect", "wh0") == 0
    assert json.loads(wh.out)["public_key"] == OWN_KEY
    assert wh("inspect", "all") == 0
    assert len(json.loads(wh.out)) == 1


def test_lookup_tells_addresses_and_relays(wh: Wh, daemon: FakeDaemon) -> None:
    assert wh("lookup", "wh0", "node_b") == 0
    assert wh.out == f"direct 192.0.2.9:7\nrelay {OWN_KEY}\nfound over 2 hops in 7 ms\n"
    assert wh("lookup", "wh0", "nobody") == 1
    assert wh.out.startswith("not found (7 ms): ")


def test_ping_counts_and_survives_silence(
    wh: Wh, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whtools.commands.ping.INTERVAL_S", 0.0)
    assert wh("ping", "wh0", "node_b", "count", "2") == 0
    assert wh.out == "ping node_b: direct 192.0.2.9:7 time=1.50ms\n" * 2
    assert wh("ping", "wh0", "silent", "--count=2") == 1
    assert wh.out == "offline\n" * 2
    assert wh.err == "wh: error WH321: the peer does not answer\n  fix: is it up?\n"
    assert wh("ping", "wh0", "nobody", "count", "3") == 1
    assert (wh.out, wh.err) == ("", "wh: error WH314: no such name\n")


def test_resolve_goes_both_ways(wh: Wh, daemon: FakeDaemon) -> None:
    assert wh("resolve", "node_b") == 0
    assert wh.out == "10.0.42.3\n2001:20::2\n"
    assert wh("resolve", "10.0.42.3") == 0
    assert wh.out == "node_b\n"
    assert wh("resolve", "nobody") == 1


def test_reload_tells_the_changes_or_every_wrong_line(wh: Wh, daemon: FakeDaemon) -> None:
    assert wh("reload", "wh0") == 0
    assert wh.out == "wh0: added node_c\n"
    with FakeDaemon("broken"):
        assert wh("reload", "all") == 5
    assert wh.out == "wh0: added node_c\n"
    assert wh.err == (
        "wh: error WH112: unknown word 'trsut'\n"
        "  at /net:3:1\n"
        "  fix: did you mean trust?\n"
        "wh: error WH116: no key\n"
        "  at /net:4:7\n"
    )


def test_down_returns_when_the_daemon_is_gone(wh: Wh, daemon: FakeDaemon) -> None:
    assert wh("down", "wh0") == 0
    assert client.list_interfaces() == []


def test_the_only_interface_needs_no_name(wh: Wh, daemon: FakeDaemon) -> None:
    assert wh("ping", "node_b") == 0
    assert wh("lookup", "node_b", "json") == 0
    assert wh("forget", PEER_KEY) == 0
    assert wh("reload") == 0
    assert wh("inspect") == 0
    assert [call[0] for call in daemon.calls if call[0] != "status"] == ["ping", "lookup", "forget", "reload"]
    assert json.loads(wh.out)["public_key"] == OWN_KEY
    assert wh("ping", "wh0") == 2
    assert "no word behind wh0" in wh.err
    with FakeDaemon("wh1"):
        assert wh("ping", "node_b") == 2
        assert wh("down") == 2
        assert "wh0 | wh1" in wh.err
        assert wh("down", "all") == 0
    assert client.list_interfaces() == []
    assert wh("down") == 3


def test_other_programs_words_are_understood(wh: Wh, daemon: FakeDaemon) -> None:
    assert wh("status", "wh0") == 0
    assert "interface wh0" in wh.out
    assert wh("-V") == 0
    assert wh.out.startswith("wirehub ")


def test_ipc_passes_json_through(wh: Wh, daemon: FakeDaemon) -> None:
    assert wh("ipc", "wh0", "lookup", "-", stdin='{"peer": "x"}') == 0
    *steps, result = map(json.loads, wh.out.splitlines())
    assert [step["asked"] for step in steps] == [1, 2]
    assert result["found"] is True
    assert wh("ipc", "wh0", "lookup", "[1]") == 2
    assert wh("ipc", "wh0", "fly") == 1
    assert "unknown verb" in wh.err


# Endings


def test_a_reader_that_leaves_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    for arguments in (["help"], ["help", "errors"]):
        ran = subprocess.run(
            [sys.executable, "-m", "whtools.cli", *arguments],
            stdout=write_end,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert (ran.returncode, ran.stderr) == (141, b"")
    os.close(write_end)


def test_an_unexpected_exception_is_one_line_unless_asked_for(
    wh: Wh, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(client, "call_raw", fail)
    assert wh("inspect", "wh0") == 70
    assert wh.err.startswith("wh: error WH100: ZeroDivisionError: boom\n")
    monkeypatch.setenv("WH_DEBUG", "1")
    assert cli.run(["inspect", "wh0"]) == 70
    assert "Traceback" in capfd.readouterr().err


def test_every_error_code_is_explained(wh: Wh) -> None:
    assert wh("help", "errors") == 0
    assert [line.split()[0] for line in wh.out.splitlines()] == [code.value for code in Code]


# Completion


@pytest.mark.parametrize(
    ("before", "unfinished", "found"),
    [
        ([], "re", ["reload", "revoke", "resolve"]),
        (["revoke"], "node", ["node_b"]),
        (["join", "wh2", "private-key"], "", [completion.FILES]),
        (["authenticate", "wh0", "node_b"], "", [completion.FILES]),
        (["ping"], "", ["wh0", "node_b"]),
        (["down"], "", ["wh0", "all"]),
        (["ping", "wh0"], "node", ["node_b"]),
        (["ping", "wh0", "node_b"], "", ["count", "json"]),
        (["ping", "wh9"], "", ["count", "json"]),
        (["show"], "a", ["all"]),
        (["show", "wh0"], "", ["light", "all", "json"]),
        (["up"], "", [completion.FILES]),
        (["up", "net"], "private", ["private-key"]),
        (["up", "net", "private-key"], "x", [completion.FILES]),
        (["up", "net", "mode"], "d", ["direct"]),
        (["up", "net", "mode", "nat"], "--m", []),
        (["up", "net"], "--m", ["--mode"]),
        (["up", "net", "nonsense"], "", []),
        (["nonsense"], "", []),
        (["help"], "err", ["errors"]),
    ],
)
def test_completion_knows_what_can_come_next(
    daemon: FakeDaemon, before: list[str], unfinished: str, found: list[str]
) -> None:
    assert completion.candidates(before, unfinished) == found


def test_bash_completes_with_the_script(daemon: FakeDaemon, environment: Path) -> None:
    script = subprocess.run(
        ["bash", "-c", f'wh() {{ "{sys.executable}" -m whtools.cli "$@"; }}; source <(wh completion bash); '
         'COMP_WORDS=(wh ping wh0 no); COMP_CWORD=3; _wh; printf "%s\\n" "${COMPREPLY[@]}"'],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert script.stdout == "node_b\n"
