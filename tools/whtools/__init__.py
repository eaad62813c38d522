"""The command lines `wh`, `0nc` and `wh-wireguard`."""
