"""One way to write a reply, two ways to wait: the steps of a generator, driven from sync and from async code.

A step is a piece of text for the caller, a future of the runtime, or a function that blocks. The generator itself
never waits, so that neither form repeats what the other does.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Future
from typing import Any, Self

from gemma4_mm.coreai.run.host import outcome
from gemma4_mm.coreai.run.reply import Reply

Step = str | Future[Any] | Callable[[], Any]
Steps = Generator[Step, Any, None]


class ReplyStream(Iterator[str]):
    """Pieces of a reply's text as they become certain. Work starts with the first `next`; leaving a `with` ends it.

    Attributes:
        reply: what has been written so far.
    """

    def __init__(self, steps: Steps, reply: Reply) -> None:
        self.reply = reply
        self._steps = steps

    def __next__(self) -> str:
        answer: Any = None
        try:
            while True:
                step = self._steps.send(answer)
                if isinstance(step, str):
                    return step
                answer = step.result() if isinstance(step, Future) else step()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the reply here; the session is free for the next one."""
        self._steps.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncReplyStream(AsyncIterator[str]):
    """As `ReplyStream`, for `async for`: the caller's loop is never blocked. A cancelled wait ends the reply.

    Attributes:
        reply: what has been written so far.
    """

    def __init__(self, steps: Steps, reply: Reply) -> None:
        self.reply = reply
        self._steps = steps

    async def __anext__(self) -> str:
        answer: Any = None
        try:
            while True:
                step = self._steps.send(answer)
                if isinstance(step, str):
                    return step
                answer = await (outcome(step) if isinstance(step, Future) else asyncio.to_thread(step))
        except StopIteration:
            raise StopAsyncIteration from None
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """End the reply here; the session is free for the next one."""
        self._steps.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
