"""Policy of WireHub: the engine, its configuration and its daemon. Import the submodules."""
