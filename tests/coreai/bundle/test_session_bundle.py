"""A bundle's own tokenizer and constants, as its sessions take them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.coreai.run.session import Session
from gemma4_mm.errors import AssetError
from tests.coreai.conversations import picture, reply, user
from tests.coreai.sessions import ONE


def changed_bundle(bundle: Bundle, path: Path, **constants: Any) -> Bundle:
    """A copy whose `multimodal` block is changed; None removes a key."""
    shutil.copytree(bundle.path, path)
    metadata = json.loads((path / "metadata.json").read_text())
    block = metadata["multimodal"] | constants
    metadata["multimodal"] = {name: value for name, value in block.items() if value is not None}
    (path / "metadata.json").write_text(json.dumps(metadata))
    return Bundle.read(path)


def test_stated_budgets_and_frames_win_over_the_processors_and_missing_ones_do_not(
    chat_bundle: Bundle, tmp_path: Path
) -> None:
    from gemma4_mm.coreai.bundle.bundle_processor import bundle_processor

    stated = changed_bundle(chat_bundle, tmp_path / "a", image_soft_tokens=140, video_frames=2)
    config = bundle_processor(stated).config
    assert (config.image_soft_tokens, config.video_soft_tokens, config.video_frames) == (140, 70, 2)
    silent = changed_bundle(chat_bundle, tmp_path / "b", image_soft_tokens=None, video_frames=None)
    config = bundle_processor(silent).config
    assert (config.image_soft_tokens, config.video_frames) == (70, 3)  # processor_config.json's
    (silent.tokenizer_path / "processor_config.json").unlink()
    assert bundle_processor(silent).config.image_soft_tokens == 280  # the published


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        (
            {"image_token_id": 300},
            r"image is 300 in multimodal.image_token_id, 19 in tokenizer.json; restore the token",
        ),
        ({"image_soft_tokens": 100}, "asks for what this package cannot prepare: max_soft_tokens is 100"),
        ({"sample_rate_hz": 8000}, "cannot prepare: sample_rate_hz is 8000; it must be 16000"),
        ({"samples_per_token": 320}, "cannot prepare: samples_per_token is 320; it must be 640"),
    ],
)
def test_metadata_that_contradicts_the_tokenizer_or_the_model_is_refused(
    chat_bundle: Bundle, tmp_path: Path, constants: dict[str, Any], message: str
) -> None:
    with pytest.raises(AssetError, match=message):
        Session.open(changed_bundle(chat_bundle, tmp_path / "b", **constants))


def test_the_bundles_mask_rule_counts_unless_another_is_given(chat_bundle: Bundle, tmp_path: Path) -> None:
    messages = [user(picture(0), picture(1), "compare")]
    with Session.open(changed_bundle(chat_bundle, tmp_path / "b", mask_rule="static")) as opened:
        assert opened.mask_rule == "static"
        ids, logits = reply(opened, messages, max_tokens=2)
        for rule in ("static", "forward"):
            _, other = reply(Session(opened.runtime, mask_rule=rule), messages, max_tokens=2)
            assert (np.abs(other[0] - logits[0]).max() < 1e-5) == (rule == "static")
        assert ids


def test_a_bundle_without_a_template_says_which_file_is_missing(runtime: Runtime) -> None:
    kept = Session(runtime)
    with pytest.raises(AssetError, match=r"chat_template\.jinja is missing"):
        kept.generate([user("hello")], ONE)
    assert kept.generate([user("hello")], ONE, chat_template="{{ bos_token }}{{ messages[0]['role'] }}").ids
