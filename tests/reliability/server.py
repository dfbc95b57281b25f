"""A server without a page, to be killed: `python -m tests.reliability.server ID…` trains runs until it dies."""

import sys
import time

from playground.runs.launcher import launcher


def main() -> None:
    crew = launcher()
    for run_id in sys.argv[1:]:
        crew.submit(run_id, run_id)
    print(*(worker.process.pid for worker in crew._workers), flush=True)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()
