"""What kind of NAT this node is behind, and the addresses it can be reached at."""
