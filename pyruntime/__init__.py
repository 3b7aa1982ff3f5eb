"""pyruntime: compress trained networks and run them fast on CPUs."""
