"""Open a pool, let its workers hang, print their ids, and wait to be killed. Run as a script by test_pool_faults."""

import sys
import time

from factory.contracts import Message, Sample
from factory.rewards.pool import VerifierPool

if __name__ == "__main__":
    with VerifierPool("pool_verifiers:VERIFIERS", workers=2, timeout_s=600) as pool:
        for index, name in enumerate(("deaf", "spin")):
            pool.submit(index, "x", Sample(id="s", task="t", messages=(Message("user", "q"),), reference=""), [name])
        while len(pool.worker_pids()) < 2:
            time.sleep(0.01)
        time.sleep(0.5)
        print(*pool.worker_pids(), flush=True)
        sys.stdin.read()
        time.sleep(1000)
