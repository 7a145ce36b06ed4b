"""Token counts of the rows as Luthier's task encodes them.

``python -m benchmarks.trainer_comparison.token_counts FOLDER`` prints the rows' tokens and targets.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from training.spec import TrainSpec
from training.trainer.prepare import prepare
from training.trainer.state import StopFlag


def main(folder: Path) -> None:
    prepared = prepare(folder, TrainSpec.read(folder), StopFlag())
    rows = prepared.training.examples
    print(json.dumps({"lengths": [row.size for row in rows], "targets": sum(map(prepared.task.count_targets, rows))}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
