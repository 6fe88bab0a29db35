"""The published chat template with a tokenizer that loads at once: what is tested starts many processes."""

import pytest

from gemma4_mm.coreai.convert.tiny_tokenizer import write_tokenizer
from tests.dataset.files import write_media


@pytest.fixture(scope="session")
def model(tmp_path_factory, assets):
    """A folder that `--model` takes."""
    folder = tmp_path_factory.mktemp("model")
    write_tokenizer(folder, chat_template=assets.read_chat_template())
    return folder


@pytest.fixture
def folder(tmp_path):
    """A folder with media."""
    write_media(tmp_path)
    return tmp_path
