"""Runs in NAVSIM's own environment, never in the factory's: scores trajectories from a file and writes the figures to a file.

    python navsim_score.py trajectories.jsonl scores.jsonl METRIC_CACHE_FOLDER

Exit code 3: NAVSIM is not installed here. Written for the interface of NAVSIM v1 (`pdm_score` with five arguments); v2 has another one,
for which a script of your own can stand in (see navsim.score_in_sidecar).
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path


def main(asked, answered, cache_folder):
    """Score every row of `asked`; one that fails is reported and does not stop the others."""
    try:
        import numpy as np
        from navsim.common.dataclasses import Trajectory
        from navsim.common.dataloader import MetricCacheLoader
        from navsim.evaluate.pdm_score import pdm_score
        from navsim.planning.simulation.planner.pdm_planner.scoring.pdm_scorer import PDMScorer
        from navsim.planning.simulation.planner.pdm_planner.simulation.pdm_simulator import PDMSimulator
        from nuplan.planning.simulation.trajectory.trajectory_sampling import TrajectorySampling
    except ImportError as err:
        print(err, file=sys.stderr)
        return 3
    fine = TrajectorySampling(num_poses=40, interval_length=0.1)
    coarse = TrajectorySampling(num_poses=8, interval_length=0.5)
    simulator, scorer = PDMSimulator(fine), PDMScorer(fine)
    cache = MetricCacheLoader(Path(cache_folder))
    with open(asked, encoding="utf-8") as rows, open(answered, "w", encoding="utf-8") as out:
        for line in rows:
            row = json.loads(line)
            try:
                metric_cache = cache.get_from_token(row["token"])
                trajectory = Trajectory(np.array(row["poses"], dtype=np.float32), coarse)
                figures = asdict(pdm_score(metric_cache, trajectory, fine, simulator, scorer))
                result = {"token": row["token"], **{key: float(value) for key, value in figures.items()}}
            except Exception as err:
                result = {"token": row["token"], "fault": f"{type(err).__name__}: {err}"}
            out.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
