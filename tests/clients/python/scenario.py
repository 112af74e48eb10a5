"""What the Python clients share: where the proxy is, the ids they use, and the report of each step.

A client script is run as `WEIR_URL=http://127.0.0.1:PORT BOT_TOKEN=... python SCRIPT`. It prints one line
a step and a JSON summary at the end, and exits 1 at the first step that did not do what it says.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
import time

WEIR_URL = os.environ["WEIR_URL"]
BOT_TOKEN = os.environ["BOT_TOKEN"]

# Each purpose has a channel of its own, so that no step drains the bucket of another.
CHANNEL = 300000000000000001
BURST_CHANNEL = 300000000000000002
OWN_BURST_CHANNEL = 300000000000000003
APPLICATION = 300000000000000010
INTERACTION = 300000000000000011
INTERACTION_TOKEN = "aW50ZXJhY3Rpb246-of-the-real-clients"
WEBHOOK = 300000000000000012
WEBHOOK_TOKEN = "token-of-a-webhook_" + "w" * 49
UNKNOWN_MESSAGE = 300000000000000404

# Four times what the bucket holds.
BURST = 20
# Between the sends of a burst: long enough that requests arrive in the order in which they were sent,
# although each has a connection of its own, and short enough that all twenty fall into one window.
STAGGER_S = 0.05
# A 5-per-5-s bucket lets 20 requests through in no less than 15 s, the first five being free. A sliding
# one frees a slot each second: the same. Less means that nothing was limited, and the test shows nothing.
BURST_SECONDS_MIN = 13.0

FILE = bytes(range(256)) * 1024  # 256 KiB that no text encoding survives


class Complaints(logging.Handler):
    """Libraries retry a 429 on their own and then succeed: only their log tells that one came."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(f"{record.name}: {record.getMessage()}")


class Scenario:
    """Runs steps, prints what each took, and ends the process with the verdict."""

    def __init__(self, client, *loggers):
        self.client = client
        self.steps = []
        self.complaints = Complaints()
        for logger in loggers:
            logging.getLogger(logger).addHandler(self.complaints)

    @contextlib.contextmanager
    def step(self, name):
        start = time.monotonic()
        yield
        took = round((time.monotonic() - start) * 1000)
        self.steps.append({"step": name, "ms": took})
        print(f"ok {self.client}: {name} ({took} ms)", flush=True)

    async def burst(self, sends):
        """Starts `sends` (functions that send one message and give its id) one stagger apart, and checks
        that all of them succeeded, were held back, and reached Discord in the order they were sent."""
        start = time.monotonic()
        tasks = []
        for send in sends:
            tasks.append(asyncio.create_task(send()))
            await asyncio.sleep(STAGGER_S)
        ids = [int(message) for message in await asyncio.gather(*tasks)]
        took = time.monotonic() - start
        # Discord hands out ids in the order of arrival.
        expect(len(ids) == BURST, f"{len(ids)} of {BURST} messages were sent")
        expect(ids == sorted(set(ids)), f"messages arrived out of order: {ids}")
        expect(took >= BURST_SECONDS_MIN, f"{BURST} messages took {took:.1f} s: nothing limited them")

    def run(self, main):
        try:
            asyncio.run(main(self))
            expect(not self.complaints.lines, f"the library complained: {self.complaints.lines}")
        except Exception as error:
            import traceback

            traceback.print_exc()
            print(json.dumps({"client": self.client, "ok": False, "error": repr(error), "steps": self.steps}))
            sys.exit(1)
        print(json.dumps({"client": self.client, "ok": True, "steps": self.steps}))


def expect(condition, message):
    """`assert` that also stands under `python -O`."""
    if not condition:
        raise AssertionError(message)
