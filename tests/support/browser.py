"""Drive Chromium without a screen over its pipe of the DevTools protocol."""

import itertools
import json
import os
import shutil
import subprocess
import sys

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-pipe",
]
# Chromium reads from descriptor 3 and writes to 4.
START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """A page of Chromium."""

    def __init__(self, profile):
        read, theirs_out = os.pipe()
        theirs_in, write = os.pipe()
        ends = str(theirs_in), str(theirs_out)
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, *ends, CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out, self._numbers = os.fdopen(read, "rb"), os.fdopen(write, "wb"), itertools.count(1)
        self._session = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._session = {}
        self.call("Browser.close")
        self._process.wait(timeout=60)
        self._in.close()
        self._out.close()

    def call(self, method, **parameters):
        """The answer to a command."""
        number = next(self._numbers)
        words = {"id": number, "method": method, "params": parameters, **self._session}
        self._out.write(json.dumps(words).encode() + b"\0")
        self._out.flush()
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self):
        found = bytearray()
        while (byte := self._in.read(1)) not in (b"\0", b""):
            found += byte
        assert byte, "the browser has ended"
        return json.loads(found)

    def evaluate(self, expression):
        """The value of an expression of the page, of a promise when it is there."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, condition):
        """Wait until a condition of the page is true."""
        self.evaluate(
            "new Promise(done => { const look = () => "
            f"({condition}) ? done() : setTimeout(look, 20); look(); }})"
        )

    def give_file(self, selector, path):
        """Choose a file in an input, as a user does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])
