"""`make profile-data`: where the time of a tunnel's two processes goes, by perf.

Prints the share of each shared object (the kernel is one) and of each symbol, then the kernel's callers.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from figures import RESULTS
from implementations import Implementation, named, ours
from labnet import Lab, LabError, missing_requirements
from traffic import Iperf
from tunnel import Tunnel, make_wire
from uapi_client import UAPI_DIRECTORY

SAMPLES_PER_S = 999
SHARE_MIN_PERCENT = "0.5"

_NAMELESS = re.compile(r"\] (0x)?[0-9a-f]{16} ")
"""A symbol that is only an address: callers whose frames perf could not follow."""


def start_recording(pids: tuple[int, ...], seconds: int, output: Path) -> subprocess.Popen[bytes]:
    """Sample the processes' call chains by the CPU clock, which virtual machines have too."""
    perf = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_PER_S), "-g", "-o", str(output)]
    whom = ["-p", ",".join(map(str, pids))]
    return subprocess.Popen([*perf, *whom, "--", "sleep", str(seconds)])


def report(recorded: Path, *options: str) -> str:
    perf = ["perf", "report", "-i", str(recorded), "--stdio", "-q", "--percent-limit", SHARE_MIN_PERCENT]
    answer = subprocess.run([*perf, *options], capture_output=True, text=True, check=True)
    return "\n".join(line for line in answer.stdout.splitlines() if line and not _NAMELESS.search(line))


def profile(implementation: Implementation, seconds: int, udp_size: int | None, output: Path) -> str:
    """Run traffic through a tunnel of this implementation and return what it did, as one line."""
    with Lab("perf") as lab:
        tunnel = Tunnel(make_wire(lab, "perf"), implementation, f"perf{lab.token}")
        try:
            iperf = Iperf(tunnel)
            recorder = start_recording(tunnel.pids, seconds, output)
            if udp_size is None:
                transfer = iperf.tcp(seconds)
                done = f"TCP {transfer.megabits_per_s:,.0f} Mbit/s, {transfer.cpu_s_per_gb:.2f} CPU s/GB"
            else:
                datagrams = iperf.udp(seconds, udp_size)
                done = f"UDP {udp_size} B: {datagrams.per_s:,.0f}/s, {datagrams.cpu_us_each:.2f} CPU us each"
            if recorder.wait():
                raise LabError("perf record failed")
            return f"{implementation.label}: {done}"
        finally:
            for left in UAPI_DIRECTORY.glob(f"perf{lab.token}*.sock"):
                left.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--udp", type=int, metavar="SIZE", help="UDP datagrams of SIZE bytes instead of TCP")
    parser.add_argument("--program", type=Path, help="another implementation than ours")
    arguments = parser.parse_args()
    reason = missing_requirements() or (None if shutil.which("perf") else "perf is missing (linux-perf)")
    if reason:
        print(f"profile-data: {reason}", file=sys.stderr)
        return 1
    RESULTS.mkdir(exist_ok=True)
    recorded = RESULTS / "perf.data"
    implementation = named(arguments.program) if arguments.program else ours()
    print(profile(implementation, arguments.seconds, arguments.udp, recorded))
    print("\nShared objects\n" + report(recorded, "--no-children", "-g", "none", "--sort", "dso"))
    print("\nSymbols\n" + report(recorded, "--no-children", "-g", "none", "--sort", "dso,symbol"))
    print("\nThreads\n" + report(recorded, "--no-children", "-g", "none", "--sort", "comm"))
    print("\nWith callees\n" + report(recorded, "--children", "-g", "none", "--sort", "symbol"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
