from typing import final

@final
class ControlSieve:
    """What the data plane's workers know of a ControlSessions: for Datapath.set_control_sieve() alone."""
