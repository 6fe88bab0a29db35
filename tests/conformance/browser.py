"""Headless Chromium, driven over its debugging pipe: what it shows, what it complains about, what it would fetch."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAM = shutil.which("chromium")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--remote-debugging-pipe"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    *("--hide-scrollbars", "--force-color-profile=srgb"),
)
_ANSWER_S = 60


class Browser:
    """One page of one browser; a context manager.

    Attributes:
        requests: URLs that the page asked for, since it was opened.
        complaints: errors and warnings of the console, and exceptions.
    """

    def __init__(self):
        self._profile = tempfile.TemporaryDirectory(prefix="gemma4-mm-browser-", ignore_cleanup_errors=True)
        to_browser, self._send_fd = os.pipe()
        self._receive_fd, from_browser = os.pipe()
        # The pipe's ends are file descriptors 3 and 4 of the browser, by convention
        command = (
            f"exec {PROGRAM} {' '.join(_FLAGS)} --user-data-dir={self._profile.name} 3<&{to_browser} 4>&{from_browser}"
        )
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._unread, self._number, self._session = b"", 0, None
        self.requests, self.complaints = [], []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, path, *, width_px=1200, height_px=900, scheme="light"):
        """Show a file, and wait until it has loaded."""
        self.requests, self.complaints, self._loaded = [], [], False
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width_px, height=height_px, deviceScaleFactor=1, mobile=False
        )
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._call("Page.navigate", url=Path(path).resolve().as_uri())
        while not self._loaded:
            self._read()

    def evaluate(self, expression):
        """A JavaScript expression's value."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, path):
        """Write the whole page as a PNG."""
        made = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(made["data"]))

    def close(self):
        os.close(self._send_fd)
        os.close(self._receive_fd)
        self._process.kill()
        self._process.wait()
        self._profile.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _call(self, method, **arguments):
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._send_fd, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _read(self):
        """The next message; events are noted."""
        until = time.monotonic() + _ANSWER_S
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._receive_fd], [], [], max(0, until - time.monotonic()))
            chunk = os.read(self._receive_fd, 1 << 16) if ready else b""
            assert chunk, "the browser ended" if ready else f"the browser gave no answer in {_ANSWER_S} s"
            self._unread += chunk
        text, _, self._unread = self._unread.partition(b"\0")
        message = json.loads(text)
        self._note(message.get("method"), message.get("params"))
        return message

    def _note(self, event, details):
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Network.requestWillBeSent":
            self.requests.append(details["request"]["url"])
        elif event == "Log.entryAdded" and details["entry"]["level"] in ("error", "warning"):
            self.complaints.append(details["entry"]["text"])
        elif event == "Runtime.consoleAPICalled":
            self.complaints.append(str(details["args"]))
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(details["exceptionDetails"]["text"])
