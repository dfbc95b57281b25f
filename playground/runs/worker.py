"""The training process: `python -m playground.runs.worker`. Loads torch once, says ready, then trains what it is given.

JSON lines on stdin: {"run": "<path>"} to train, {"release": "<id>"} to give up the slot of a paused run,
{"crowd": "yes" or ""} when people begin or cease to wait for a slot. JSON lines on stdout: {"ready": true}, {"run", "state"} when a run starts, pauses or goes on, {"run", "end"} when it is over. The end of
stdin means the server is gone, however it died: save, mark the run interrupted, leave. SIGTERM means the same.
"""

import gc
import json
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

jobs: SimpleQueue[str | None] = SimpleQueue()  # None: leave. Its put is safe inside a signal handler
leave, release, crowd = threading.Event(), threading.Event(), threading.Event()
busy = ""  # the id of the run in training


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server decides
    signal.signal(signal.SIGTERM, _terminate)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _step_back(5)  # somebody may be waiting for this process to be ready
    threading.Thread(target=_listen, daemon=True).start()
    _warm_up()
    _step_back(14)  # 19 in all: the page comes first
    _say({"ready": True})
    while (job := jobs.get()) is not None and not leave.is_set():
        _train(Path(job))
    _leave()


def _step_back(by: int) -> None:
    if hasattr(os, "nice"):
        os.nice(by)


def _warm_up() -> None:
    """One step of a tiny run: any optimizer loads torch._dynamo and sympy, and the first use of everything is slow."""
    import torch

    from core.config import ModelConfig, RunConfig, TrainConfig
    from core.train import Trainer
    from playground.runs import training  # noqa: F401

    torch.set_num_threads(int(os.environ.get("PLAYGROUND_THREADS") or 1))
    Trainer(RunConfig(model=ModelConfig(), train=TrainConfig(steps=1, batch_size=2, device="cpu"))).advance()
    gc.collect()
    gc.freeze()  # what is loaded stays: no need to search it for garbage while training


def _train(path: Path) -> None:
    from playground.runs.store import Run
    from playground.runs.training import PATIENCE, Locked, Training

    global busy
    run = Run(path)
    busy = run.id
    release.clear()
    _say({"run": run.id, "state": "starting"})
    training = Training(
        run, leave, release, lambda state: _say({"run": run.id, "state": state}), patience=PATIENCE, crowd=crowd
    )
    try:
        state = training()
    except Locked:
        state = "locked"
    busy = ""
    _say({"run": run.id, "end": state})
    if training.unsound:
        _leave()
    gc.collect()


def _listen() -> None:
    """Read requests until the pipe ends. Not sys.stdin: its lock would be held for ever by this thread."""
    rest = b""
    while data := _read():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "run" in request:
                jobs.put(request["run"])
            elif "crowd" in request:
                (crowd.set if request["crowd"] else crowd.clear)()
            elif request.get("release") == busy:
                release.set()
    leave.set()
    jobs.put(None)
    if not busy:
        _leave()


def _read() -> bytes:
    with suppress(OSError):
        return os.read(0, 65536)
    return b""


def _terminate(number: int, frame: FrameType | None) -> None:
    leave.set()
    jobs.put(None)
    if not busy:
        _leave()


def _say(message: dict[str, object]) -> None:
    with suppress(OSError, ValueError):  # nobody listens any more: the end of stdin will say so
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def _leave() -> None:
    """At once: everything is on disk, and an orderly end would take torch half a second."""
    os._exit(0)


if __name__ == "__main__":
    main()
