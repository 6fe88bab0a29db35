"""What the tests of sessions share: short replies, and encoded prompts."""

from typing import Any

from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.coreai.run.session import GenerationOptions, Session

SHORT = GenerationOptions(max_tokens=6, stop_ids=())
ONE = GenerationOptions(max_tokens=1)


def encode(runtime: Runtime, messages: Any) -> Any:
    return Session(runtime).processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True
    )
