"""What is wrong is said in one line with what to do, and the container ends with an exit code."""

from __future__ import annotations

import pytest

from container_engine import FULL, MINIMAL, Engine, wait_until
from container_networks import CONFIG, USER, Tutorial, mounted

STATE = "/var/lib/wirehub"
TARGET = "wirehub_key"
NOBODY_ELSE = "name lan\nsubnet 10.0.42.0/24\n"


def node(engine: Engine, *options: str, words: tuple[str, ...] = ("wh-node",)) -> tuple[int, str]:
    """Exit code and log of one that ends by itself."""
    container = engine.start(MINIMAL, options, *words)
    code = container.exit_code()
    return code, container.logs()


def test_without_a_network_file_it_says_what_to_mount_and_which_line(engine: Engine) -> None:
    volume = engine.volume()
    key = engine.key(volume)
    code, log = node(engine, "--volume", f"{volume}:{STATE}")
    assert code == 1
    assert CONFIG in log and f"trust NAME {key}" in log


def test_a_broken_network_file_is_shown_with_its_place(engine: Engine) -> None:
    broken = engine.file("config", NOBODY_ELSE + "trsut a b\n")
    code, log = node(engine, *mounted(broken, engine.volume()))
    assert code == 5
    assert "WH112" in log and f"{CONFIG}:3:1" in log and "trust" in log


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--user", "1000", "--volume", "{unwritable}:/var/lib/wirehub"), "mount a volume"),
        (("--read-only", "--volume", "{unwritable}:/var/lib/wirehub:ro"), "mount a volume"),
    ],
    ids=["of root", "read-only"],
)
def test_a_volume_that_cannot_be_written(engine: Engine, options: tuple[str, ...], said: str) -> None:
    place = engine.directory / "unwritable"
    place.mkdir(mode=0o755, exist_ok=True)
    config = engine.file("config", NOBODY_ELSE)
    given = [word.format(unwritable=place) for word in options]
    code, log = node(engine, *given, "--volume", f"{config}:{CONFIG}:ro")
    assert code == 1 and said in log
    assert "Traceback" not in log


def test_without_a_volume_the_key_is_the_containers(engine: Engine) -> None:
    """The engine makes a nameless one."""
    config = engine.file("config", NOBODY_ELSE)
    container = engine.start(MINIMAL, ["--volume", f"{config}:{CONFIG}:ro"])
    container.wait_for_log("is up")
    before = container.inspect()
    engine("restart", "--time", "10", container.name)
    wait_until(lambda: container.logs().count("is up") == 2, "up again")
    after = container.inspect()
    for what in ("public_key", "listen_port"):
        assert before[what] == after[what], what
    assert "made now" in container.logs() and "kept in" in container.logs()


def test_a_key_of_another_owner_is_refused(engine: Engine) -> None:
    volume = engine.volume()
    engine.key(volume)
    code, log = node(engine, *mounted(engine.file("config", NOBODY_ELSE), volume), *USER)
    assert code == 1
    assert "1000" in log and "Traceback" not in log


@pytest.mark.parametrize(
    "spoil", ["chmod 640", "chown 1000", "sh -c 'mv $0 /tmp/k && ln -s /tmp/k $0'", "truncate -s 0"]
)
def test_a_key_that_others_could_read_or_place_is_refused(engine: Engine, spoil: str) -> None:
    volume = engine.volume()
    engine.key(volume)
    engine.run(MINIMAL, ["--volume", f"{volume}:{STATE}"], "sh", "-c", f"{spoil} {STATE}/node/key")
    code, log = node(engine, *mounted(engine.file("config", NOBODY_ELSE), volume))
    assert code == 1
    assert f"{STATE}/node/key" in log and "fix:" in log and "Traceback" not in log


def test_a_key_comes_by_a_secret_that_only_the_node_can_read(engine: Engine) -> None:
    text = engine.run(MINIMAL, [], "wh", "genkey").stdout
    secret = engine.secret(text)
    public = engine.run(MINIMAL, [], "sh", "-c", f"echo {text.strip()} | wh pubkey").stdout.strip()
    given = [f"--secret={secret},target={TARGET},mode=0400"]
    assert engine.run(MINIMAL, given, "wh-node", "key").stdout.strip() == public
    for user in USER, ():
        open_to_all = [f"--secret={secret},target={TARGET},mode=0444", *user]
        refused = engine.run(MINIMAL, open_to_all, "wh-node", "key", check=False)
        assert refused.returncode == 1 and "mode=0400" in refused.stdout
    unreadable = engine.run(MINIMAL, [*given, *USER], "wh-node", "key", check=False)
    assert unreadable.returncode == 1 and "uid=UID" in unreadable.stdout
    assert text.strip() not in unreadable.stdout


def test_the_environment_brings_no_key(engine: Engine) -> None:
    text = engine.run(MINIMAL, [], "wh", "genkey").stdout.strip()
    names = ("WH_KEY", "WH_PRIVATE_KEY", "WIREHUB_KEY", "PRIVATE_KEY")
    options = [word for name in names for word in ("--env", f"{name}={text}")]
    public = engine.run(MINIMAL, [], "sh", "-c", f"echo {text} | wh pubkey").stdout.strip()
    assert engine.run(MINIMAL, options, "wh-node", "key").stdout.strip() != public


def test_twenty_at_once_on_one_volume_make_one_key(engine: Engine) -> None:
    volume = engine.volume()
    script = "for i in 1 2 3 4 5 6 7 8; do wh-node key & done; wait"
    keys = engine.run(MINIMAL, ["--volume", f"{volume}:{STATE}"], "sh", "-c", script).stdout.split()
    assert len(keys) == 8 and len(set(keys)) == 1
    listing = engine.run(MINIMAL, ["--volume", f"{volume}:{STATE}"], "ls", "-A", f"{STATE}/node").stdout
    assert listing.split() == ["key"]


def test_two_containers_with_one_key_on_one_volume(engine: Engine) -> None:
    """The second would take the first one's packets away."""
    tutorial = Tutorial(engine, "node-a")
    first = tutorial.start("node-a")
    first.wait_until_healthy()
    second = tutorial.start("node-a")
    assert second.exit_code() == 1
    assert "WH222" in second.logs()
    assert first.execute("wh", "health").returncode == 0
    first.engine("kill", "--signal", "KILL", first.name)
    wait_until(lambda: not first.running(), "killed")
    tutorial.start("node-a").wait_until_healthy()


def test_two_containers_with_one_key_by_a_secret(engine: Engine) -> None:
    """Each would be healthy by itself, and the others reach one of them at most."""
    tutorial = Tutorial(engine, "node-a")
    text = engine.run(MINIMAL, [], "wh", "genkey").stdout
    given = [*FULL, f"--secret={engine.secret(text)},target={TARGET},mode=0400"]
    tutorial.keys["node-a"] = engine.run(MINIMAL, given, "wh-node", "key").stdout.strip()
    tutorial.config.write_text(tutorial.network_file("node-a"))
    first = tutorial.start("node-a", given)
    first.wait_until_healthy()
    tutorial.volumes["node-a"] = engine.volume()
    second = tutorial.start("node-a", given)

    def both_say_so() -> bool:
        told = [each.execute("wh", "health", check=False).stdout for each in (first, second)]
        return all("another node has this node's key" in each for each in told)

    wait_until(both_say_so, "both know of each other", 240)


def test_health_of_a_key_on_no_trust_line_names_it(engine: Engine) -> None:
    volume = engine.volume()
    container = engine.start(MINIMAL, mounted(engine.file("config", NOBODY_ELSE), volume), "wh-node")
    container.wait_for_log("is up")
    told = container.execute("wh", "health", check=False)
    assert told.returncode == 1
    assert f"key {engine.key(volume)} is on no trust line" in told.stdout
