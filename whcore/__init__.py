"""Mechanism of WireHub: everything done per packet or with secret key bytes. Import the submodules."""
