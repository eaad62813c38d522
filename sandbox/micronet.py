"""Carries frames over virtual wires, each with impairments of its own, as a kernel with netem would.

`python micronet.py` runs in the namespace where the inner ends of the wires are. One core carries about 300
Mbit/s of full frames (TCP over one wire of 20 ms, with its acknowledgements); what is more is lost.

On standard input comes one request a line, as JSON, and each gets one line as answer, {} or {"error": TEXT}:
  {"do": "add", "wire": NAME, "ends": [DEVICE, DEVICE], "seed": TEXT, "impairments": {...}}
  {"do": "change", "wire": NAME, "lanes": [0, 1], "impairments": {...}}      lane 0 goes from the first end
  {"do": "counters", "wire": NAME}                                          -> {"lanes": [{...}, {...}]}
The end of the input is the end of the program.
"""

from __future__ import annotations

import contextlib
import gc
import json
import select
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from lane import Impairments, Lane

ETH_P_ALL = 3  # linux/if_ether.h
SOL_PACKET = 263  # linux/socket.h
PACKET_QDISC_BYPASS = 20  # linux/if_packet.h
PACKET_IGNORE_OUTGOING = 23
SO_RCVBUFFORCE = 33  # asm-generic/socket.h

RECEIVE_BUFFER = 16 * 1024 * 1024
FRAME_MAX = 2_048
"""Bytes; offloads are off at the ends of a wire."""
BATCH = 64
"""Frames read from one end before the others get their turn."""

Answer = dict[str, Any]


def open_end(device: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    end.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    end.bind((device, ETH_P_ALL))
    end.setblocking(False)
    return end


class Direction:
    """Frames from one end of a wire to the other."""

    def __init__(self, source: socket.socket, target: socket.socket, lane: Lane) -> None:
        self.source = source
        self.lane = lane
        self._receive = source.recv
        self._send = target.send

    def take_in(self) -> None:
        receive, push = self._receive, self.lane.push
        try:
            for _ in range(BATCH):
                push(receive(FRAME_MAX), time.monotonic())
        except BlockingIOError:
            pass
        except OSError:  # the device went down: said once
            pass

    def pass_on(self, now: float) -> None:
        for frame in self.lane.due(now):
            with contextlib.suppress(OSError):  # down, or its queue is full: lost, as on any wire
                self._send(frame)


class Carrier:
    def __init__(self) -> None:
        self._wires: dict[str, tuple[Direction, Direction]] = {}
        self._by_fd: dict[int, Direction] = {}
        self._epoll = select.epoll()
        self._requests: dict[str, Callable[[Answer], Answer]] = {
            "add": self._add,
            "change": self._change,
            "counters": self._counters,
        }

    def run(self) -> None:
        """Until the end of standard input."""
        stdin = sys.stdin.fileno()
        self._epoll.register(stdin, select.EPOLLIN)
        directions = self._by_fd
        while True:
            for fd, _ in self._epoll.poll(self._timeout_s()):
                if fd != stdin:
                    directions[fd].take_in()
                elif not self._answer_one():
                    return
            now = time.monotonic()
            for direction in directions.values():
                direction.pass_on(now)

    def _timeout_s(self) -> float:
        """epoll rounds it up to whole milliseconds."""
        dues = [due for each in self._by_fd.values() if (due := each.lane.next_due) is not None]
        return max(0.0, min(dues) - time.monotonic()) if dues else -1

    def _answer_one(self) -> bool:
        line = sys.stdin.readline()  # a request waits for its answer: no second line is ever buffered
        if not line:
            return False
        try:
            request = json.loads(line)
            answer = self._requests[request["do"]](request)
        except (KeyError, TypeError, ValueError, OSError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
        return True

    def _add(self, request: Answer) -> Answer:
        name, impairments = request["wire"], Impairments(**request["impairments"])
        first, second = (open_end(device) for device in request["ends"])
        lanes = [Lane(impairments, f"{request['seed']} {n}") for n in range(2)]
        self._wires[name] = (Direction(first, second, lanes[0]), Direction(second, first, lanes[1]))
        for direction in self._wires[name]:
            self._by_fd[direction.source.fileno()] = direction
            self._epoll.register(direction.source, select.EPOLLIN)
        return {}

    def _change(self, request: Answer) -> Answer:
        for number in request["lanes"]:
            self._wires[request["wire"]][number].lane.alter(**request["impairments"])
        return {}

    def _counters(self, request: Answer) -> Answer:
        return {"lanes": [asdict(each.lane.counters) for each in self._wires[request["wire"]]]}


if __name__ == "__main__":
    gc.disable()  # nothing here makes cycles
    Carrier().run()
