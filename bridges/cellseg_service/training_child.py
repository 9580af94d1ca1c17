"""A training in a process of its own: the request on stdin, one JSON object a line on stdout.

``python -m cellseg_service.training_child``. Its stdin stays open while the service lives; when
it is closed, the training ends. Exit code 0 with a last line that is a result, else something
broke.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from typing import Any

EXIT_ABANDONED = 3


def main() -> int:
    """Run the training that the first line of stdin asks for."""
    from cellseg_engine.errors import CellSegError
    from cellseg_engine.train.finetune import fine_tune
    from cellseg_engine.train.state import TrainingProgress
    from cellseg_service.messages import describe_error
    from cellseg_service.training_messages import TrainRequest, fine_tuning_of

    def report(progress: TrainingProgress) -> None:
        _say(
            {
                "event": "progress",
                "stage": progress.stage,
                "fraction": progress.done / max(1, progress.total),
                "epoch": progress.epoch,
                "epochs": progress.n_epochs,
                "loss": None if math.isnan(progress.loss) else round(progress.loss, 6),
            }
        )

    request = TrainRequest.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, _stop)
    try:
        done = fine_tune(fine_tuning_of(request), report, lambda _: None, _finish_in_peace)
    except CellSegError as error:
        _say({"event": "result", "status": "refused", "error": describe_error(error)})
        return 0
    answer = {"model": done.model.name, "start_from": done.model.start}
    numbers = {"images": done.model.images, "objects": done.model.objects}
    _say({"event": "result", "status": "ok", **answer, **numbers, "epochs": done.model.epochs,
          "warnings": list(done.warnings)})  # fmt: skip
    return 0


def _say(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _stop(_number: int, _frame: object) -> None:
    raise SystemExit(EXIT_ABANDONED)


def _finish_in_peace() -> None:
    """Let a cancellation come too late while the model is put into the list."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _end_with_parent() -> None:
    """End when the service closes stdin or dies; what is left is swept by the next training."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os._exit(EXIT_ABANDONED)


GRACE_S = 10.0

if __name__ == "__main__":
    sys.exit(main())
