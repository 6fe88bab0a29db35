"""`python -m tests.goldens.record`: write what the live oracle gives for the golden cases to `processor.json`."""

import copy
import json
from importlib import metadata
from pathlib import Path

from gemma4_mm.assets.find import fetch_assets
from tests.goldens.cases import fingerprint, golden_cases

FILE = Path(__file__).with_name("processor.json")
PRODUCERS = ("transformers", "torch", "torchvision", "pillow")


def main():
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(fetch_assets().tokenizer.parent)
    cases = {}
    for name, arguments in golden_cases().items():
        arguments = copy.deepcopy(arguments)
        output = processor.apply_chat_template(
            arguments.pop("conversation"), tokenize=True, return_dict=True, return_tensors="np", **arguments
        )
        cases[name] = {key: fingerprint(value) for key, value in output.items()}
    versions = {package: metadata.version(package) for package in PRODUCERS}
    FILE.write_text(json.dumps({"producers": versions, "cases": cases}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
