"""Latency of whole networks, ours and the peers', in turns."""
