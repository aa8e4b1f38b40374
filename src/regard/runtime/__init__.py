"""Runtime: devices, processes and precision of a run, and what its processes say when one of them fails."""
