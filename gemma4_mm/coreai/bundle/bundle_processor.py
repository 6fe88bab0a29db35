"""The `Processor` of a bundle: its own tokenizer and template, and the constants that its metadata states."""

from dataclasses import replace
from typing import Any

from gemma4_mm.assets.find import find_assets
from gemma4_mm.assets.processor_config import ProcessorConfig
from gemma4_mm.coreai.bundle.bundle import Bundle
from gemma4_mm.coreai.bundle.constants import FoundConstants
from gemma4_mm.errors import AssetError, InputError
from gemma4_mm.processor import Processor
from gemma4_mm.releases import DEFAULT_PROFILE, Profile
from gemma4_mm.spec import SAMPLE_RATE_HZ, SAMPLES_PER_TOKEN, TokenIds, check_budget


def bundle_processor(bundle: Bundle, *, profile: Profile = DEFAULT_PROFILE, **options: Any) -> Processor:
    """Open the processor of a bundle.

    Default budgets and frame counts are the metadata's where it states them, else `processor_config.json`'s, else the
    profile's.

    Args:
        bundle: whose tokenizer is read.
        profile: the reference behaviour.
        options: `limits` and `allow_network` of `Processor`.

    Raises:
        AssetError: tokenizer files are missing, or metadata and tokenizer contradict each other.
    """
    found, assets = bundle.found_constants, find_assets(bundle.path)
    try:
        config = _config(found, ProcessorConfig.from_json(assets.read_processor_config(), profile=profile))
    except InputError as error:
        raise AssetError(f"{bundle.path} asks for what this package cannot prepare: {error}") from error
    processor = Processor(assets, config=config, profile=profile, **options)
    _check_tokens(found, processor.tokenizer.token_ids)
    return processor


def _config(found: FoundConstants, config: ProcessorConfig) -> ProcessorConfig:
    constants = found.constants
    for name, wanted in (("sample_rate_hz", SAMPLE_RATE_HZ), ("samples_per_token", SAMPLES_PER_TOKEN)):
        if (value := getattr(constants, name)) != wanted:
            raise InputError(f"{name} is {value}; it must be {wanted}")
    names = ("image_soft_tokens", "video_soft_tokens", "video_frames")
    stated = {name: getattr(constants, name) for name in names if name in found.places}
    config = replace(config, **stated)
    check_budget(config.image_soft_tokens)
    check_budget(config.video_soft_tokens)
    return config


def _check_tokens(found: FoundConstants, tokenizer_ids: TokenIds) -> None:
    """The placeholder ids that the tokenizer writes are those that the model was told of."""
    stated, written = vars(found.constants.tokens), vars(tokenizer_ids)
    wrong = [
        f"{name} is {stated[name]} in {found.places[f'{name}_token_id']}, {written[name]} in tokenizer.json"
        for name in written
        if f"{name}_token_id" in found.places and stated[name] != written[name]
    ]
    if wrong:
        raise AssetError(
            f"metadata and tokenizer contradict each other: {'; '.join(wrong)}; restore the tokenizer that belongs to "
            "the model"
        )
