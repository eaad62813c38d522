"""The local socket: who may use it, what hostile and vanishing callers get, what the client makes of it."""

from __future__ import annotations

import asyncio
import os
import pwd
import random
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from fake_daemon import FakeDaemon

from wh.errors import Code, IpcError, SystemSetupError
from wh.ipc import client, credentials, paths, schema, server
from wh.ipc.credentials import Caller, may_call
from wh.ipc.schema import Access

REQUEST = b'{"verb": "forget", "args": {"peer": "node_b"}}\n'


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "run"
    monkeypatch.setenv("WH_RUNDIR", str(directory))
    return directory


async def do_nothing(arguments: Any, progress: server.Progress) -> schema.Nothing:
    return schema.Nothing()


@asynccontextmanager
async def serving(**handlers: server.Handler) -> AsyncIterator[str]:
    path = paths.socket_path("wh0")
    ipc = server.IpcServer(path, handlers or {"forget": do_nothing})
    await ipc.start()
    try:
        yield path
    finally:
        await ipc.close()


async def converse(path: str, sent: bytes) -> list[dict[str, Any]]:
    """All lines of the answer, which comes also where the server refuses before it has read what was sent."""
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 22)
    try:
        writer.write(sent)
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
    return [msgspec.json.decode(line) for line in answer.splitlines()]


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_progress_comes_before_the_answer_on_both_loops(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def lookup(arguments: schema.PeerArguments, progress: server.Progress) -> schema.LookupResult:
        progress(schema.LookupProgress(1, 2))
        return schema.LookupResult(arguments.peer, True, [], [], 1, 2.0)

    async def scenario() -> None:
        async with serving(lookup=lookup) as path:
            lines = await converse(path, b'{"verb": "lookup", "args": {"peer": "x"}}\n')
        assert [next(iter(line)) for line in lines] == ["progress", "ok"]
        assert lines[1]["ok"]["public_key"] == "x"

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(scenario())


@pytest.mark.parametrize(
    "sent",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b"\xff\xfe\n",
        b'{"verb": "fly"}\n',
        b'{"verb": "forget"}\n',
        b'{"verb": "forget", "args": {"peer": ""}}\n',
        b'{"verb": "forget", "args": {"peer": "x", "more": 1}}\n',
        b'{"verb": "forget", "args": ' + b"[" * 20_000 + b"]" * 20_000 + b"}\n",
        b'{"verb": "\\ud800", "args": {}}\n',
    ],
)
def test_a_request_that_is_wrong_gets_one_error_line(sent: bytes) -> None:
    async def scenario() -> None:
        async with serving() as path:
            (line,) = await converse(path, sent)
            assert line["error"]["code"] == Code.IPC_BAD_REQUEST
            assert await converse(path, REQUEST) == [{"ok": {}}]

    run(scenario)


def test_random_bytes_never_stop_the_server() -> None:
    noise = random.Random(2)

    async def scenario() -> None:
        async with serving() as path:
            for length in (1, 7, 100, 5000, schema.REQUEST_LEN_MAX * 3):
                (line,) = await converse(path, noise.randbytes(length) + b"\n")
                assert "error" in line
            assert await converse(path, REQUEST) == [{"ok": {}}]

    run(scenario)


def test_a_line_without_end_is_refused_at_the_limit() -> None:
    async def scenario() -> None:
        async with serving() as path:
            (line,) = await converse(path, b"x" * (schema.REQUEST_LEN_MAX + 1))
            assert "at most" in line["error"]["message"]

    run(scenario)


def test_a_silent_caller_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.05)

    async def scenario() -> None:
        async with serving() as path:
            (line,) = await converse(path, b'{"verb": "forg')
            assert line["error"]["code"] == Code.IPC_BAD_REQUEST

    run(scenario)


def test_a_hundred_callers_at_once_leave_room_again() -> None:
    async def scenario() -> None:
        async with serving() as path:
            idle = [await asyncio.open_unix_connection(path) for _ in range(100)]
            (line,) = await converse(path, REQUEST)
            assert line["error"]["code"] == Code.IPC_BUSY
            for _, writer in idle:
                writer.close()
            while "error" in (line := (await converse(path, REQUEST))[0]):
                assert line["error"]["code"] == Code.IPC_BUSY
            assert line == {"ok": {}}

    run(scenario)


def test_a_caller_that_leaves_cancels_its_handler() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def wait_for_ever(arguments: Any, progress: server.Progress) -> schema.Nothing:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return schema.Nothing()

    async def scenario() -> None:
        async with serving(forget=wait_for_ever) as path:
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(REQUEST)
            await started.wait()
            writer.close()
            await asyncio.wait_for(cancelled.wait(), 5)

    run(scenario)


def test_an_exception_in_a_handler_is_logged_and_told_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(arguments: Any, progress: server.Progress) -> schema.Nothing:
        raise ZeroDivisionError("detail")

    async def scenario() -> None:
        async with serving(forget=fail) as path:
            (line,) = await converse(path, REQUEST)
            assert "detail" not in str(line)
            assert line["error"]["code"] == Code.UNKNOWN

    run(scenario)
    assert "detail" in caplog.text


def test_the_answer_of_a_handler_that_stops_the_server_still_arrives() -> None:
    stop = asyncio.Event()

    async def down(arguments: Any, progress: server.Progress) -> schema.Nothing:
        stop.set()
        return schema.Nothing()

    async def scenario() -> None:
        path = paths.socket_path("wh0")
        ipc = server.IpcServer(path, {"down": down})
        await ipc.start()
        call = asyncio.create_task(converse(path, b'{"verb": "down"}\n'))
        await stop.wait()
        await ipc.close()
        assert await call == [{"ok": {}}]
        assert not Path(path).exists()

    run(scenario)


def test_a_live_daemon_keeps_its_socket_and_a_dead_one_loses_it() -> None:
    path = Path(paths.socket_path("wh0"))

    async def scenario() -> None:
        async with serving():
            with pytest.raises(SystemSetupError, match="already runs on wh0") as caught:
                await server.IpcServer(str(path), {}).start()
            assert caught.value.code == Code.ALREADY_RUNNING
            assert path.exists()
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        async with serving() as served:
            assert await converse(served, REQUEST) == [{"ok": {}}]

    run(scenario)


@pytest.mark.parametrize(("gid", "mode"), [(None, 0o600), (os.getgid(), 0o660)])
def test_the_socket_is_open_to_the_group_only_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, run_dir: Path, gid: int | None, mode: int
) -> None:
    monkeypatch.setattr("wh.ipc.listener.wirehub_gid", lambda: gid)

    async def scenario() -> None:
        async with serving() as path:
            assert stat.S_IMODE(Path(path).stat().st_mode) == mode
            assert stat.S_IMODE(run_dir.stat().st_mode) == 0o755

    old_mask = os.umask(0)
    try:
        run(scenario)
    finally:
        os.umask(old_mask)


@pytest.mark.parametrize(
    ("uid", "groups", "use", "admin"),
    [(0, (), True, True), (1000, (), True, True), (1001, (7,), True, False), (1002, (8,), False, False)],
)
def test_who_may_call(
    monkeypatch: pytest.MonkeyPatch, uid: int, groups: tuple[int, ...], use: bool, admin: bool
) -> None:
    monkeypatch.setattr(credentials, "_STARTED_BY", 1000)
    monkeypatch.setattr(credentials, "wirehub_gid", lambda: 7)
    monkeypatch.setattr(credentials, "groups_of", lambda uid, gid: frozenset(groups))
    caller = Caller(pid=1, uid=uid, gid=99)
    assert may_call(caller, Access.USE) is use
    assert may_call(caller, Access.ADMIN) is admin


def test_groups_are_those_of_the_database_and_the_process_s_own() -> None:
    assert {0, 4321} <= credentials.groups_of(0, 4321)
    assert credentials.groups_of(2**31 - 5, 77) == {77}


SYSTEM_PYTHON = Path(sys.executable).resolve()
"""Strangers cannot run the one in .venv where that stands in a closed home directory."""

ASK_ALL_VERBS = """
import socket, sys
for verb in sys.argv[2:]:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(sys.argv[1])
        caller.sendall(b'{"verb": "%s", "args": {"hostile": 1}}\\n' % verb.encode())
        print(caller.recv(4096).decode(), end="")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_every_verb_is_refused_to_a_stranger_whom_the_file_system_let_in(run_dir: Path) -> None:
    with FakeDaemon() as daemon:
        Path(paths.socket_path("wh0")).chmod(0o666)
        for directory in run_dir.parents:
            directory.chmod(directory.stat().st_mode | 0o001)
        asked = subprocess.run(
            [SYSTEM_PYTHON, "-I", "-c", ASK_ALL_VERBS, paths.socket_path("wh0"), *schema.VERBS],
            user=65534,
            group=65534,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        )
    codes = [msgspec.json.decode(line)["error"]["code"] for line in asked.stdout.splitlines()]
    assert codes == [Code.IPC_DENIED] * len(schema.VERBS)
    assert daemon.calls == []


IDLE_CALLERS = """
import socket, sys
held = []
for _ in range(int(sys.argv[2])):
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(sys.argv[1])
    held.append(caller)
print("held", flush=True)
sys.stdin.read()
"""
USERS = (54321, 54322)


def as_user(uid: int, script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [SYSTEM_PYTHON, "-I", "-c", script, *arguments],
        user=uid,
        group=uid,
        extra_groups=[],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def open_to_all(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The path of a socket that USERS may use, as members of the group."""
    monkeypatch.setattr(credentials, "wirehub_gid", lambda: 7)
    monkeypatch.setattr(credentials, "groups_of", lambda uid, gid: {7} if uid in USERS else set())
    with FakeDaemon():
        Path(paths.socket_path("wh0")).chmod(0o666)
        for directory in run_dir.parents:
            directory.chmod(directory.stat().st_mode | 0o001)
        yield paths.socket_path("wh0")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_member_of_the_group_who_takes_all_places_shuts_out_neither_root_nor_another(
    open_to_all: str,
) -> None:
    hog = as_user(USERS[0], IDLE_CALLERS, open_to_all, "100")
    try:
        assert hog.stdout is not None and hog.stdout.readline() == "held\n"
        assert client.call("wh0", schema.STATUS, schema.NoArguments()).interface == "wh0"
        other = as_user(USERS[1], ASK_ALL_VERBS, open_to_all, "status", "down")
        answers = [msgspec.json.decode(line) for line in other.communicate(timeout=20)[0].splitlines()]
        assert answers[0]["error"]["code"] == Code.IPC_BAD_REQUEST  # heard: the arguments are wrong
        assert answers[1]["error"]["code"] == Code.IPC_DENIED
    finally:
        hog.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_as_many_users_as_one_likes_leave_places_to_root_and_to_users_with_a_name(open_to_all: str) -> None:
    """Of a range of subordinate uids."""
    hogs = [as_user(100_000 + number, IDLE_CALLERS, open_to_all, "8") for number in range(9)]
    try:
        for hog in hogs:
            assert hog.stdout is not None and hog.stdout.readline() == "held\n"
        assert client.call("wh0", schema.STATUS, schema.NoArguments()).interface == "wh0"
        named = as_user(pwd.getpwnam("daemon").pw_uid, ASK_ALL_VERBS, open_to_all, "status")
        assert Code.IPC_DENIED in named.communicate(timeout=20)[0]  # no member, but heard
    finally:
        for hog in hogs:
            hog.communicate()


def test_the_client_gets_results_and_progress() -> None:
    steps: list[int] = []

    def on_progress(step: msgspec.Raw) -> None:
        steps.append(msgspec.json.decode(step, type=schema.LookupProgress).asked)

    with FakeDaemon():
        result = client.call("wh0", schema.LOOKUP, schema.PeerArguments("node_b"), on_progress)
    assert result.candidates == ["192.0.2.9:7"]
    assert steps == [1, 2]


def test_the_client_keeps_every_error_of_a_network_file() -> None:
    with FakeDaemon("broken"), pytest.raises(client.DaemonError) as caught:
        client.call("broken", schema.RELOAD, schema.NoArguments())
    assert [error.place for error in caught.value.errors] == ["/net:3:1", "/net:4:7"]
    assert caught.value.code == Code.UNKNOWN_WORD


def test_without_a_daemon_the_client_says_who_runs() -> None:
    with FakeDaemon("wh7"):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(paths.socket_path("gone"))
        for absent in ("gone", "never"):
            with pytest.raises(IpcError) as caught:
                client.call(absent, schema.STATUS, schema.NoArguments())
            assert caught.value.code == Code.NO_DAEMON
            assert caught.value.hint == "running: wh7"
        assert client.list_interfaces() == ["wh7"]


@pytest.mark.parametrize("name", ["", ".", "..", "../etc", "a" * 16, "a b", "a:b", "a\0b"])
def test_a_name_that_could_leave_the_directory_is_no_interface(name: str) -> None:
    with pytest.raises(IpcError) as caught:
        client.call(name, schema.STATUS, schema.NoArguments())
    assert caught.value.code == Code.BAD_INTERFACE_NAME


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", Code.IPC_BAD_REPLY),
        (b"nonsense\n", Code.IPC_BAD_REPLY),
        (b'{"ok": {"public_key": 3}}\n', Code.IPC_BAD_REPLY),
        (b'{"ok": {', Code.IPC_BAD_REPLY),
        (None, Code.IPC_TIMEOUT),
    ],
)
def test_a_daemon_that_answers_badly_or_never_is_one_clear_error(
    run_dir: Path, answer: bytes | None, code: Code
) -> None:
    run_dir.mkdir()
    asked_in_vain = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(paths.socket_path("wh0"))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                if answer is None:
                    asked_in_vain.wait(10)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(IpcError) as caught:
            client.call("wh0", schema.LOOKUP, schema.PeerArguments("x"), timeout=0.3 if answer is None else 5)
        asked_in_vain.set()
        thread.join()
    assert caught.value.code == code
