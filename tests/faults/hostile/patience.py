"""Time limits of tests that must be short where nothing else runs, and long where a machine is busy."""

import os


def patience(seconds: float) -> float:
    """`seconds` on an idle machine; as many times longer as there are runnable processes for each core, up to 8 times."""
    crowd = os.getloadavg()[0] / (os.cpu_count() or 1)
    return round(seconds * min(8.0, max(1.0, crowd)), 1)
