"""Policy of WireHub: the engine, its configuration and its daemon. Import the submodules."""


def __getattr__(name: str) -> str:
    """`__version__`, which takes time to find out."""
    if name != "__version__":
        raise AttributeError(f"module 'wh' has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("wirehub")
    except PackageNotFoundError:  # run from its sources
        return "unknown"
