"""A Gemma4Unified checkpoint, configuration or model → a bundle with the four functions, checked by Apple's gates."""

import functools
import importlib
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

from gemma4_mm.coreai.bundle.bundle import TOKENIZER_DIR, Bundle, build_metadata, write_metadata
from gemma4_mm.coreai.bundle.constants import MultimodalConstants
from gemma4_mm.coreai.convert.gates import (
    Gate,
    Outputs,
    Probes,
    Reference,
    compare,
    make_probes,
    require_passed,
    run_asset,
)
from gemma4_mm.coreai.run.runtime import Runtime
from gemma4_mm.errors import AssetError, InputError, InvariantError
from gemma4_mm.optional import require
from gemma4_mm.spec import TokenIds

EXTRA: Final = "coreai-convert"
_TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "processor_config.json",
    "generation_config.json",
)
_MIN_CONTEXT: Final = 64  # the traced sizes must fit into the states

Weights = Literal["float32", "bfloat16", "int4"]


@dataclass(frozen=True, kw_only=True)
class ConversionOptions:
    """How to convert.

    Attributes:
        name: of the bundle and its `.aimodel`.
        context_length: rows of the KV states; a sequence takes one fewer.
        weights: `float32` as they are; `bfloat16` storage, widened in the graph, exact for a bfloat16 checkpoint;
            `int4` for the decoder's linear layers and its head in blocks of 32, bfloat16 storage for the rest.
            Embedders are stored in bfloat16 unless `weights` is `float32`. Arithmetic is float32 throughout.
        states: element type of the KV states; `bfloat16` halves them and departs from the float32 reference.
        hf_model_id: recorded as the source.
    """

    name: str = "gemma_4_12b_it_mm"
    context_length: int = 8192
    weights: Weights = "bfloat16"
    states: Literal["float32", "bfloat16"] = "float32"
    hf_model_id: str = "google/gemma-4-12B-it"

    def __post_init__(self) -> None:
        if not isinstance(self.context_length, int) or self.context_length < _MIN_CONTEXT:
            raise InputError(f"context_length is {self.context_length!r}; it must be at least {_MIN_CONTEXT}")


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """What a conversion made.

    Attributes:
        bundle: the bundle on disk.
        gates: per function, against the graph; with `int4` also against the unquantised weights.
        duration_s: wall time in seconds.
    """

    bundle: Bundle
    gates: tuple[Gate, ...]
    duration_s: float

    def __str__(self) -> str:
        lines = [f"{self.bundle.path} in {self.duration_s:.0f} s", *(f"  {gate}" for gate in self.gates)]
        return "\n".join(lines)


def convert_checkpoint(
    checkpoint: Path | str, out: Path | str, *, options: ConversionOptions | None = None
) -> ConversionReport:
    """Convert a local checkpoint directory, weights and tokenizer files.

    The model is loaded in float32: the 12B model needs about 50 GB of memory.

    Raises:
        AssetError: the directory holds no Gemma4Unified checkpoint or no `tokenizer.json`.
        InputError: `out` exists.
        InvariantError: the asset missed a gate; nothing is left at `out`.
        MissingDependencyError: the extra `coreai-convert` is not installed.
    """
    torch, transformers = require("torch", extra=EXTRA), require("transformers", extra=EXTRA)
    checkpoint = Path(checkpoint)
    try:
        model, loading = transformers.Gemma4UnifiedForConditionalGeneration.from_pretrained(
            checkpoint, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        raise AssetError(f"{checkpoint} is not a Gemma4Unified checkpoint: {error}") from error
    if loading["missing_keys"]:  # transformers fills them with random values and only warns
        missing = sorted(loading["missing_keys"])
        raise AssetError(f"{checkpoint} lacks {len(missing)} weights, the first is {missing[0]}; download it again")
    return convert_model(model, out, tokenizer=checkpoint, options=options)


def convert_config(
    config: Any,
    out: Path | str,
    *,
    tokenizer: Path | str,
    options: ConversionOptions | None = None,
    constants: MultimodalConstants | None = None,
    seed: int = 0,
) -> ConversionReport:
    """Convert a randomly initialised model of a `Gemma4UnifiedConfig`; arguments and errors as of `convert_model`."""
    model = random_model(config, seed=seed)
    return convert_model(model, out, tokenizer=tokenizer, options=options, constants=constants)


def random_model(config: Any, *, seed: int) -> Any:
    """Return a `Gemma4UnifiedForConditionalGeneration` of random float32 weights that bfloat16 holds exactly."""
    torch, transformers = require("torch", extra=EXTRA), require("transformers", extra=EXTRA)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.Gemma4UnifiedForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).float()
    return model


def convert_model(
    model: Any,
    out: Path | str,
    *,
    tokenizer: Path | str,
    options: ConversionOptions | None = None,
    constants: MultimodalConstants | None = None,
) -> ConversionReport:
    """Convert a loaded model. It is changed in place: quantised or stored in bfloat16 as the options say.

    Args:
        model: `Gemma4UnifiedForConditionalGeneration`, float32.
        out: directory to make; written whole or not at all.
        tokenizer: directory of `tokenizer.json` and its companions, copied into the bundle.
        options: how to convert.
        constants: multimodal constants to record; by default those of the model's configuration.

    Raises:
        AssetError: `tokenizer` holds no `tokenizer.json`.
        InputError: `out` exists, or the options do not fit the model.
        InvariantError: the asset missed a gate; nothing is left at `out`.
        MissingDependencyError: the extra `coreai-convert` is not installed.
    """
    started = time.perf_counter()
    out, options = Path(out), options or ConversionOptions()
    if out.exists():
        raise InputError(f"{out} exists; choose another directory, or remove it first")
    files = _tokenizer_files(Path(tokenizer))
    constants = constants or model_constants(model)
    text = model.config.text_config
    probes = make_probes(
        vocabulary=text.vocab_size,
        hidden=text.hidden_size,
        patch_values=constants.patch_values,
        samples_per_token=constants.samples_per_token,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        made = Path(scratch) / "bundle"
        (made / TOKENIZER_DIR).mkdir(parents=True)
        for file in files:
            shutil.copy(file, made / TOKENIZER_DIR / file.name)
        asset_name = f"{options.name}.aimodel"
        references = _write_asset(model, made / asset_name, options=options, probes=probes)
        metadata = build_metadata(
            name=options.name,
            asset_name=asset_name,
            vocabulary=text.vocab_size,
            max_context=options.context_length,
            constants=constants,
            hf_model_id=options.hf_model_id,
            compression="int4-block32" if options.weights == "int4" else None,
            date=datetime.now().astimezone().isoformat(timespec="seconds"),
        )
        write_metadata(made, metadata)
        gates = _check(Bundle.read(made), probes, references)
        made.replace(out)
    return ConversionReport(bundle=Bundle.read(out), gates=gates, duration_s=time.perf_counter() - started)


def model_constants(model: Any) -> MultimodalConstants:
    """The constants that a model's configuration fixes; budgets and mask rule are the published ones."""
    config, generation, base = model.config, model.generation_config, MultimodalConstants()
    stop_ids = generation.eos_token_id
    tokens = TokenIds(
        pad=config.text_config.pad_token_id,
        eos=stop_ids[0] if isinstance(stop_ids, list) else stop_ids,
        bos=config.text_config.bos_token_id,
        boi=config.boi_token_id,
        boa=config.boa_token_id,
        image=config.image_token_id,
        audio=config.audio_token_id,
        eoi=config.eoi_token_id,
        eoa=config.eoa_token_index,
        video=config.video_token_id,
    )
    return replace(
        base,
        tokens=tokens,
        stop_ids=tuple(stop_ids) if isinstance(stop_ids, list) else base.stop_ids,
        suppressed_ids=tuple(generation.suppress_tokens or (tokens.eoa, tokens.eoi)),
        sliding_window=config.text_config.sliding_window,
        position_table=config.vision_config.mm_posemb_size,
        patch_values=config.vision_config.model_patch_size**2 * 3,
        samples_per_token=config.audio_config.audio_samples_per_token,
    )


def load_tools() -> tuple[ModuleType, ModuleType]:
    """Return the modules `export` and `quantize`, after asking for every library of the extra.

    Raises:
        MissingDependencyError: one of them is not installed.
    """
    for library in ("torch", "transformers", "coreai.runtime", "coreai_torch", "coreai_opt"):
        with warnings.catch_warnings():
            # coreai-torch 0.4.3 warns of any torch above 2.13; the gates decide whether a conversion is right.
            warnings.filterwarnings("ignore", "coreai-torch has only been validated", UserWarning)
            require(library, extra=EXTRA)
    here = "gemma4_mm.coreai.convert"
    return importlib.import_module(f"{here}.export"), importlib.import_module(f"{here}.quantize")


def _write_asset(model: Any, path: Path, *, options: ConversionOptions, probes: Probes) -> dict[Reference, Outputs]:
    """Quantise, store and export `model`; return what torch computes on the probes, before and after."""
    export, quantize = load_tools()
    with export.eager_inference(model):
        plan = functools.partial(
            export.plan_exports, model, context_length=options.context_length, states=options.states
        )
        unquantized: dict[Reference, Outputs] = {}
        if options.weights == "int4":
            unquantized["weights"] = export.run_plans(plan(), probes)
            quantize.quantize_decoder(model)
        if options.weights != "float32":
            quantize.store_bfloat16(model)
        plans = plan()
        export.save_asset(plans, path)
        return {"graph": export.run_plans(plans, probes), **unquantized}


def _check(bundle: Bundle, probes: Probes, references: Mapping[Reference, Outputs]) -> tuple[Gate, ...]:
    gates: tuple[Gate, ...] = ()
    with Runtime.open(bundle, verify=False) as runtime:  # just written
        if runtime.problems:
            raise InvariantError(f"the converted asset breaks the contract: {'; '.join(runtime.problems)}; report it")
        outputs = run_asset(runtime, probes)
    for reference, expected in references.items():
        gates += compare(outputs, expected, reference=reference)
    require_passed(gates)
    return gates


def _tokenizer_files(directory: Path) -> list[Path]:
    files = [directory / name for name in _TOKENIZER_FILES if (directory / name).is_file()]
    if not files or files[0].name != "tokenizer.json":
        raise AssetError(f"{directory} has no tokenizer.json; give the directory that holds the model's own")
    return files
