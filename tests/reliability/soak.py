"""`python -m tests.reliability.soak --minutes 10 --sessions 30`: people come, train, watch and go, for as long as it is told.

Prints what the server holds every half minute, and at the end by how much its memory grew an hour after the first ten
minutes (or after a third of the time, where that is less), with its sessions, threads and file handles before and after.
"""

import argparse
import asyncio
import random
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tests.browser.conftest import Server, start
from tests.reliability.client import Visitor
from tests.reliability.test_load import SLOTS, Burden, alone, nothing, port, train_to_the_end

TINY = "d_model=16&d_ff=16&n_heads=2&n_layers=1&batch_size=8"
LOOK = 30.0  # seconds between two looks at the server
BAR = 5.0  # MB an hour


UNANSWERED = [0]  # requests that Streamlit lost, see client.py


async def person(server: Server, dice: random.Random, end: float) -> list[str]:
    """One visit after the other; what went wrong. What is not answered in a minute ends the visit, not the soak."""
    wrong: list[str] = []
    while time.monotonic() < end:
        visitor = Visitor(port(server), f"{TINY}&steps={dice.randint(50, 2000)}")
        try:
            await visit(visitor, dice)
        except (TimeoutError, AssertionError) as error:
            wrong.append(f"a visit ended early: {error!r}")
            with suppress(AttributeError):  # it never came in
                await visitor.leave()
        UNANSWERED[0] += visitor.unanswered
        wrong += visitor.exceptions + visitor.failed_polls
    return wrong


async def visit(visitor: Visitor, dice: random.Random) -> None:
    """Train, stop now and then, look again, be cut off; go."""
    await visitor.open()
    visitor.watch()
    await visitor.press("Train")
    for _deed in range(dice.randint(1, 4)):
        await asyncio.sleep(dice.uniform(2, 15))
        deed = dice.choice(("stop", "cut", "look"))
        if deed == "stop" and (button := visitor.button("Stop")) is not None and not button.disabled:
            await visitor.press("Stop")
        elif deed == "cut":
            await visitor.cut()
            await visitor.open()
        else:
            await visitor.rerun()
    button = visitor.button("Stop")
    if button is not None and not button.disabled:
        await visitor.press("Stop")
    await visitor.leave()


async def look(server: Server, minutes: float, found: list[tuple[float, float]]) -> None:
    process, begin = psutil.Process(server.process.pid), time.monotonic()
    while True:
        now = (time.monotonic() - begin) / 60
        found.append((now, process.memory_info().rss / 1e6))
        try:
            burden: object = await asyncio.to_thread(Burden.of, server)
        except TimeoutError:
            burden = "its own figures not told in 5 s"
        print(f"{now:6.1f} of {minutes:g} min: {found[-1][1]:.1f} MB, {burden}", flush=True)
        await asyncio.sleep(LOOK)


def slope(points: list[tuple[float, float]]) -> float:
    """MB an hour, by least squares."""
    n, t, m = len(points), sum(x for x, _y in points), sum(y for _x, y in points)
    over = sum((x - t / n) ** 2 for x, _y in points)
    return 60 * sum((x - t / n) * (y - m / n) for x, y in points) / over if over else 0.0


async def soak(server: Server, minutes: float, sessions: int) -> tuple[list[str], list[tuple[float, float]]]:
    end, found = time.monotonic() + 60 * minutes, list[tuple[float, float]]()
    looking = asyncio.create_task(look(server, minutes, found))
    wrong = await asyncio.gather(*(person(server, random.Random(i), end) for i in range(sessions)))
    looking.cancel()
    return [sentence for one in wrong for sentence in one], found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--sessions", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder), PLAYGROUND_SLOTS=str(SLOTS), STREAMLIT_SERVER_DISCONNECTED_SESSION_TTL="5")
        try:
            asyncio.run(alone(server, train_to_the_end))
            time.sleep(15)
            before = Burden.of(server)
            wrong, found = asyncio.run(soak(server, options.minutes, options.sessions))
            time.sleep(6)
            asyncio.run(alone(server, nothing))
            time.sleep(15)
            after = Burden.of(server)
        finally:
            server.stop()
        log = server.log.read_text()
    settled = [point for point in found if point[0] >= min(10.0, options.minutes / 3)]
    growth = slope(settled)
    print(f"{UNANSWERED[0]} pages had to ask twice after they were cut off")
    print(f"before: {before}\nafter:  {after}")
    print(f"{len(wrong)} faults on the pages: {sorted(set(wrong))}; tracebacks in the log: {log.count('Traceback')}")
    print(
        f"memory: {growth:+.1f} MB an hour over {settled[-1][0] - settled[0][0]:.1f} minutes (bar {BAR:g} MB an hour)"
    )
    back = (after.sessions, after.threads <= before.threads, after.handles <= before.handles) == (0, True, True)
    return 0 if back and not wrong and "Traceback" not in log and growth <= BAR else 1


if __name__ == "__main__":
    raise SystemExit(main())
