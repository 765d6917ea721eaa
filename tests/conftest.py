"""Settings that every test needs before torch is imported."""

import os

# Two OpenMP threads can be many times slower than one on a shared machine; cores are used by processes (pytest -n 2).
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
