"""The real launcher with workers that do nothing until a test speaks for them."""

import json
from typing import Any

from playground.runs import store
from playground.runs.launcher import Launcher, Worker


class Pretended(Launcher):
    """Workers that do nothing until the test speaks for them."""

    def _start(self) -> Worker:
        worker = Worker(Silent(), ready=True)  # type: ignore[arg-type]
        self._workers.append(worker)
        return worker

    def says(self, run: store.Run, **message: Any) -> None:
        worker = self._worker(run.id)
        assert worker is not None
        with self._lock:
            self._heard(worker, {"run": run.id} | message)

    def busy(self) -> set[str]:
        return {w.run.id for w in self._workers if w.run is not None}


class Silent:
    pid = 0  # no process

    def __init__(self) -> None:
        self.stdin, self.heard = self, []  # type: ignore[var-annotated]

    def write(self, data: bytes) -> None:
        self.heard.append(json.loads(data))

    def flush(self) -> None: ...
    def close(self) -> None: ...
    def wait(self, timeout: float = 0) -> int:
        return 0
