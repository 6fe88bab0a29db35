"""What only a Mac can run; elsewhere skipped, with the reason, and never imitated."""

import os
import sys

import pytest

from gemma4_mm.coreai.run.session import GenerationOptions, Session
from tests.coreai.conversations import picture, sound, user

BUNDLE = os.environ.get("GEMMA4_MM_BUNDLE")


@pytest.mark.skipif(sys.platform != "darwin", reason="needs macOS 27, whose own Core AI framework runs the bundle")
@pytest.mark.skipif(BUNDLE is None, reason="needs a 12B bundle: name its directory in GEMMA4_MM_BUNDLE")
def test_the_12b_bundle_answers_on_the_system_framework() -> None:
    assert BUNDLE is not None
    with Session.open(BUNDLE) as session:
        assert session.runtime.problems == ()
        options = GenerationOptions(max_tokens=16)
        text = session.generate([user("What is the capital of France? Answer with one word.")], options)
        assert "Paris" in text.text
        seen = session.generate([user(picture(0), sound(1), "What do you see and hear?")], options)
        assert seen.ids
        assert seen.statistics.reused_tokens > 0  # the opening of the turn
