"""A server without a page, to be killed: `python -m tests.reliability.server ID…` trains runs until it dies."""

import signal
import sys
import time

from playground.runs.launcher import launcher


def main() -> None:
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # as at a terminal; what a shell sends to the background ignores it
    crew = launcher()
    for run_id in sys.argv[1:]:
        crew.submit(run_id, run_id)
    print(*(worker.process.pid for worker in crew._workers), flush=True)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()
