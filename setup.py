"""Build of the Cython core: one extension a module of whcore/, compiled in parallel against libsodium."""

import os
import platform
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

LIBSODIUM_MINIMUM = "1.0.18"


def pkg_config(*arguments: str) -> list[str]:
    tool = os.environ.get("PKG_CONFIG", "pkg-config")
    try:
        answer = subprocess.run([tool, *arguments, "libsodium"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        sys.exit(f"wirehub: {tool} is missing; on Debian: apt-get install pkg-config libsodium-dev")
    except subprocess.CalledProcessError as error:
        cause = (error.stderr.strip().splitlines() or ["pkg-config finds none, or an older one"])[0]
        sys.exit(
            f"wirehub: libsodium >= {LIBSODIUM_MINIMUM} with its headers is missing ({cause}); "
            "on Debian: apt-get install libsodium-dev"
        )
    return answer.stdout.split()


def hardening() -> tuple[list[str], list[str]]:
    """Flags of compiler and linker against what a memory error could be used for. The sanitizers (make asan)
    find the error itself, and do not see through fortified calls."""
    compile_flags = ["-fstack-protector-strong", "-fstack-clash-protection"]
    if platform.machine() == "x86_64":
        compile_flags.append("-fcf-protection")
    if "-fsanitize" not in os.environ.get("CFLAGS", ""):
        compile_flags += ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
    return compile_flags, ["-Wl,-z,relro,-z,now,-z,noexecstack"]


class ParallelBuild(build_ext):
    """build_ext that compiles the extensions on all cores."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if not self.parallel:
            self.parallel = os.cpu_count() or 1


def extensions() -> list[Extension]:
    from Cython.Build import cythonize

    pkg_config("--atleast-version", LIBSODIUM_MINIMUM)
    hard_compile, hard_link = hardening()
    compile_flags = ["-O3", "-g1", "-fno-strict-aliasing", "-D_GNU_SOURCE", *pkg_config("--cflags")]
    link_flags = ["-pthread", *pkg_config("--libs")]
    headers = sorted(map(str, Path("whcore").glob("*.h")))
    modules = [
        Extension(
            f"whcore.{source.stem}",
            [str(source)],
            depends=["setup.py", *headers],  # Cython sees to the .pxd
            include_dirs=["whcore"],
            extra_compile_args=compile_flags + hard_compile,
            extra_link_args=link_flags + hard_link,
        )
        for source in sorted(Path("whcore").glob("*.pyx"))
    ]
    directives = {
        "language_level": 3,
        "boundscheck": False,
        "wraparound": False,
        "cdivision": True,
        "initializedcheck": False,
        "embedsignature": True,
        "legacy_implicit_noexcept": False,
    }
    return cythonize(modules, compiler_directives=directives, nthreads=os.cpu_count() or 1)


if __name__ == "__main__":
    wants_build = not {"clean", "dist_info", "egg_info", "sdist"} & set(sys.argv)
    setup(ext_modules=extensions() if wants_build else [], cmdclass={"build_ext": ParallelBuild})
