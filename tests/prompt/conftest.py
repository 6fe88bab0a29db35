"""The published tokenizer and chat template, loaded once."""

import pytest

from gemma4_mm.assets.find import Assets
from gemma4_mm.prompt.template import ChatTemplate
from gemma4_mm.prompt.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer(assets: Assets) -> Tokenizer:
    return Tokenizer(assets.tokenizer, config=assets.read_tokenizer_config())


@pytest.fixture(scope="session")
def template(assets: Assets) -> ChatTemplate:
    return ChatTemplate(assets.read_chat_template())
