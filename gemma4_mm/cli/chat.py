"""`gemma4-mm chat`: a conversation line by line, from a terminal or a pipe."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from gemma4_mm.cli.generation import (
    MAX_TOKENS,
    BundleArgument,
    MaskRuleOption,
    MaxTokensOption,
    MinPOption,
    PenaltyOption,
    SeedOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
    format_statistics,
    open_session,
    options_for,
)
from gemma4_mm.cli.request import (
    MaxSoftTokensOption,
    NumFramesOption,
    SystemOption,
    ThinkingOption,
    template_arguments,
)
from gemma4_mm.coreai.run.reply import GenerationOptions
from gemma4_mm.errors import Gemma4MMError, InputError, InvariantError

if TYPE_CHECKING:
    from gemma4_mm.coreai.run.session import Session

_ATTACHMENTS: Final = ("image", "audio", "video")
_HELP: Final = (
    "a line is a turn; /image PATH, /audio PATH, /video PATH go with the next one; /reset starts anew; /exit or end of "
    "input ends; a line that begins with a space is text, whatever follows"
)


def chat(
    bundle: BundleArgument,
    system: SystemOption = None,
    max_tokens: MaxTokensOption = MAX_TOKENS,
    temperature: TemperatureOption = 0.0,
    top_p: TopPOption = 1.0,
    top_k: TopKOption = 0,
    min_p: MinPOption = 0.0,
    repetition_penalty: PenaltyOption = 1.0,
    seed: SeedOption = None,
    max_soft_tokens: MaxSoftTokensOption = None,
    num_frames: NumFramesOption = None,
    thinking: ThinkingOption = False,
    mask_rule: MaskRuleOption = None,
) -> None:
    """Talk with a Core AI bundle: a line is a turn, /image PATH, /audio PATH and /video PATH go with the next one.

    /reset starts anew, /exit or end of input ends. Replies go to stdout, everything else to stderr. What the next turn
    shares with the last one is not computed again. Needs the extra coreai.
    """
    options = options_for(
        thinking,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    arguments = template_arguments(max_soft_tokens=max_soft_tokens, num_frames=num_frames, thinking=thinking)
    with open_session(bundle, mask_rule=mask_rule) as session:
        conversation = Conversation(session, options, arguments, system=system)
        if sys.stdin.isatty():
            typer.echo(_HELP, err=True)
        for line in _lines():
            if line.strip() == "/exit":
                break
            try:
                conversation.take(line)
            except Gemma4MMError as error:
                if isinstance(error, InvariantError):
                    raise
                typer.echo(f"gemma4-mm: {' '.join(str(error).split())}", err=True)


class Conversation:
    """Turns so far and attachments of the next one. A turn that fails leaves no trace."""

    def __init__(
        self, session: "Session", options: GenerationOptions, arguments: dict[str, Any], *, system: str | None
    ) -> None:
        self._session, self._options, self._arguments = session, options, arguments
        self._opening: list[dict[str, Any]] = [{"role": "system", "content": system}] if system is not None else []
        self._messages = list(self._opening)
        self._attached: list[dict[str, Any]] = []

    def take(self, line: str) -> None:
        """Do what a line says: attach a file, start anew, or answer.

        Raises:
            Gemma4MMError: an unknown command, a missing file, or what the session refuses.
        """
        command, _, argument = line.partition(" ")
        if command == "/reset":
            self._messages, self._attached = list(self._opening), []
            self._session.reset()
        elif command.removeprefix("/") in _ATTACHMENTS and command.startswith("/"):
            self._attach(command.removeprefix("/"), argument.strip())
        elif command == "/help":
            typer.echo(_HELP, err=True)
        elif command.startswith("/"):
            raise InputError(f"there is no command {command}: {_HELP}")
        elif line.strip():
            self._answer(line.strip())

    def _attach(self, kind: str, path: str) -> None:
        if not Path(path).is_file():
            raise InputError(f"{path or 'nothing'} is no file; write /{kind} PATH")
        self._attached.append({"type": kind, kind: path})

    def _answer(self, text: str) -> None:
        turn = {"role": "user", "content": [*self._attached, {"type": "text", "text": text}]}
        self._attached = []
        stream = self._session.stream([*self._messages, turn], self._options, **self._arguments)
        with stream:
            try:
                for piece in stream:
                    typer.echo(piece, nl=False)
            except KeyboardInterrupt:  # ends the reply, not the conversation
                pass
        typer.echo()
        typer.echo(format_statistics(stream.reply, mask_rule=self._session.mask_rule), err=True)
        self._messages += [turn, {"role": "assistant", "content": stream.reply.text}]


def _lines() -> Iterator[str]:
    """Lines of stdin, with editing and a prompt where a person types them."""
    prompt = ""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 (importing it gives `input` a history)
        prompt = "> "
    while True:
        try:
            yield input(prompt)
        except EOFError:
            return
        except UnicodeDecodeError as error:
            raise InputError(f"the input is not valid text: {error}; send UTF-8") from error
