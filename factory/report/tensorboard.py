"""Write the metrics of a run's stages as TensorBoard event files, one folder per stage, from `metrics.jsonl`."""

from __future__ import annotations

import shutil
from pathlib import Path

from factory.report.read import Trained


def write_events(trainings: list[Trained], out_dir: Path) -> list[Path]:
    """Rewrite `out_dir/<stage>/` for every stage. Uses the plain `tensorboard` package: no torch is loaded."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    written = []
    for trained in trainings:
        folder = out_dir / trained.name
        shutil.rmtree(folder, ignore_errors=True)
        writer = EventFileWriter(str(folder))
        for row in trained.metrics:
            values = [
                Summary.Value(tag=key, simple_value=float(value))
                for key, value in row.items()
                if key not in ("step", "total") and isinstance(value, (int, float)) and not isinstance(value, bool)
            ]
            writer.add_event(Event(step=row["step"], wall_time=float(row.get("time_s", 0.0)), summary=Summary(value=values)))
        writer.close()
        written.append(folder)
    return written
