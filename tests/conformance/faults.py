"""Subjects with one planted mistake each, made the way people make it: with Pillow, torch or plain numpy.

They share nothing with the package's own list of suspects, which has to recognise them.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageOps

from gemma4_mm import Processor
from gemma4_mm.conformance.oracle import given
from gemma4_mm.conformance.subject import OwnSubject

BUDGETS = {"image": 280, "video": 70}


@cache
def own():
    return OwnSubject(Processor.from_pretrained(local_files_only=True))


def right(case):
    """No mistake."""
    return own()(case)


def pictures(case, resize=None, *, opened=None, rescale=None, cut=None):
    """The image pipeline in plain numpy, one step of it replaced."""
    stages = right(case)
    if case.kind not in ("image", "video"):
        return stages
    height, width = stages["target_size"].tolist()
    if case.kind == "image":
        source = stages["source_rgb"] if opened is None else opened(case)
        if opened is not None:
            stages = {**stages, **size_stages(source, case)}
            height, width = stages["target_size"].tolist()
            resize = resize or torch_resize
        sources = [source]
    else:
        frames = case.inputs["frames"]
        sources = list(frames[stages["frame_indices"]] if case.options.get("do_sample_frames", True) else frames)
    if resize is None:
        resized = stages["resized_rgb"] if case.kind == "video" else stages["resized_rgb"][None]
    else:
        resized = np.stack([s if s.shape[:2] == (height, width) else resize(s, height, width) for s in sources])
    multiplied = rescale or (times_255th if case.kind == "image" else over_255)
    patches = np.zeros((len(resized), case.options.get("max_soft_tokens", BUDGETS[case.kind]), 6912), np.float32)
    for rows, picture in zip(patches, resized, strict=True):
        made = (cut or cut_patches)(multiplied(picture.astype(np.float32)))
        rows[: len(made)] = made
    if case.kind == "image":
        return {**stages, "source_rgb": sources[0], "resized_rgb": resized[0], "patches": patches[0]}
    return {**stages, "resized_rgb": resized, "patches": patches}


def size_stages(source, case):
    """Size, positions and count of another source, by the formula."""
    budget = case.options.get("max_soft_tokens", 280)
    factor = (budget * 2304 / (source.shape[0] * source.shape[1])) ** 0.5
    rows, columns = (int(factor * side / 48) for side in source.shape[:2])
    ids = np.full((budget, 2), -1, np.int32)
    ids[: rows * columns] = [(x, y) for y in range(rows) for x in range(columns)]
    return {
        "target_size": np.array([rows * 48, columns * 48], np.int32),
        "position_ids": ids,
        "soft_tokens": np.array([rows * columns], np.int32),
    }


def times_255th(levels):
    return levels * np.float32(1 / 255)


def over_255(levels):
    return levels / np.float32(255)


def cut_patches(image):
    height, width, _ = image.shape
    return image.reshape(height // 48, 48, width // 48, 48, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 6912)


def torch_resize(source, height, width, *, as_float=False, antialias=True):
    import torch

    tensor = torch.from_numpy(np.array(source)).permute(2, 0, 1)[None]
    tensor = tensor.float() if as_float else tensor
    resized = torch.nn.functional.interpolate(tensor, (height, width), mode="bicubic", antialias=antialias)
    if as_float:
        resized = resized.round().clamp(0, 255).byte()
    return resized[0].permute(1, 2, 0).numpy()


def pillow_resize(case):
    """What most ports do: `Image.resize` with the same filter."""
    return pictures(case, lambda s, h, w: np.asarray(Image.fromarray(s).resize((w, h), Image.Resampling.BICUBIC)))


def float_resize(case):
    return pictures(case, lambda s, h, w: torch_resize(s, h, w, as_float=True))


def aliased_resize(case):
    return pictures(case, lambda s, h, w: torch_resize(s, h, w, as_float=True, antialias=False))


def alpha_on_black(case):
    def opened(case):
        rgba = np.asarray(given.make_picture(case.inputs, case.options).convert("RGBA")).astype(np.int64)
        return ((rgba[..., :3] * rgba[..., 3:] * 2 + 255) // 510).astype(np.uint8)

    has_alpha = case.kind == "image" and case.options.get("mode") in ("RGBA", "LA")
    return pictures(case, opened=opened if has_alpha else None)


def exif_ignored(case):
    def opened(case):
        return np.asarray(given.make_picture(case.inputs, case.options).convert("RGB"))

    return pictures(case, opened=opened if "exif_orientation" in case.options else None)


def exif_right(case):
    """Not a mistake: Pillow's own transpose, as a check of this file."""

    def opened(case):
        picture = given.make_picture(case.inputs, case.options)
        picture.getexif()[0x0112] = case.options["exif_orientation"]
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))

    return pictures(case, opened=opened if "exif_orientation" in case.options else None)


def divided_by_255(case):
    return pictures(case, rescale=over_255)


def multiplied_by_255th(case):
    return pictures(case, rescale=times_255th)


def bgr(case):
    return pictures(case, opened=(lambda c: right(c)["source_rgb"][..., ::-1]) if case.kind == "image" else None)


def planes_in_patches(case):
    def cut(image):
        return cut_patches(image).reshape(-1, 48, 48, 3).transpose(0, 3, 1, 2).reshape(-1, 6912)

    return pictures(case, cut=cut)


def small_patches(case):
    """Patches of 16 px, not merged: a loop."""

    def cut(image):
        corners = [(y, x) for y in (0, 16, 32) for x in (0, 16, 32)]
        whole = cut_patches(image).reshape(-1, 48, 48, 3)
        return np.array(
            [np.concatenate([patch[y : y + 16, x : x + 16].ravel() for y, x in corners]) for patch in whole]
        )

    return pictures(case, cut=cut)


def yx_ids(case):
    stages = dict(right(case))
    for name in ("position_ids", "image_position_ids", "video_position_ids"):
        if name in stages:
            stages[name] = np.stack([stages[name][..., 1], stages[name][..., 0]], axis=-1)
    return stages


def both_layers(case):
    """One mask for all layers."""
    stages = dict(right(case))
    for rule in ("forward", "static", "deepmind"):
        if f"mask_global_{rule}" in stages:
            stages[f"mask_global_{rule}"] = stages[f"mask_sliding_{rule}"]
    return stages


def window_off_by_one(case):
    """k ≥ q - W instead of k > q - W, where nothing else makes the key visible."""
    stages = dict(right(case))
    for name in [name for name in stages if name.startswith("mask_sliding")]:
        mask, window = stages[name].copy(), case.options["sliding_window"]
        valid = case.inputs["attention_mask"]
        for query in range(window, mask.shape[1]):
            mask[:, query, query - window] |= (valid[:, query - window] != 0).astype(np.uint8)
        if "deepmind" in name:  # its window reaches to both sides, within the block
            types = case.inputs["token_types"]
            for row, query in np.ndindex(mask.shape[:2]):
                key = query + window
                if key < mask.shape[2] and all(kind in (1, 2) for kind in types[row, query : key + 1]):
                    mask[row, query, key] = 1
        stages[name] = mask
    return stages


def long_blocks_lost(case):
    """vllm#47217: the overlay of a block over the window is gone on sliding layers."""
    stages = dict(right(case))
    if case.kind == "masks":
        types, window = case.inputs["token_types"], case.options["sliding_window"]
        mask = stages["mask_sliding_forward"].copy()
        for row in range(len(types)):
            edges = np.flatnonzero(np.diff(np.isin(types[row], (1, 2)).astype(int), prepend=0, append=0))
            for start, stop in edges.reshape(-1, 2).tolist():
                if stop - start > window:
                    for query in range(start, stop):
                        mask[row, query, query + 1 :] = 0
                        mask[row, query, : max(query - window + 1, 0)] = 0
        stages["mask_sliding_forward"] = mask
    return stages


def chunk_inside_block(case):
    """Chunks of a fixed length, whatever lies there."""
    stages = dict(right(case))
    if case.kind == "masks":
        length, step = case.inputs["token_types"].shape[1], case.options["max_chunk"]
        spans = [
            (row, start, min(start + step, length))
            for row in range(len(case.inputs["token_types"]))
            for start in range(0, length, step)
        ]
        stages["chunk_plan"] = np.array(spans, np.int32)
    return stages


def thirty_second_cap(case):
    stages = dict(right(case))
    if case.kind == "audio":
        stages["frames"], stages["frames_mask"] = stages["frames"][:750], stages["frames_mask"][:750]
        stages["soft_tokens"] = np.minimum(stages["soft_tokens"], 750)
    return stages


def int16_unscaled(case):
    stages = dict(right(case))
    if case.kind == "audio":
        words = (np.clip(stages["frames"], -1, 1) * 32767).round().astype(np.int16)
        stages["frames"] = words.astype(np.float32)
    return stages


def not_resampled(case):
    stages = dict(right(case))
    if case.kind == "audio" and case.options.get("given_as") == "file":
        import tempfile

        import soundfile

        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/sound.wav"
            soundfile.write(path, case.inputs["samples"], case.options["rate_hz"], subtype=case.options["subtype"])
            samples = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1)
        frames = np.pad(samples, (0, -len(samples) % 640)).reshape(-1, 640)
        stages |= {"pcm": samples, "frames": frames, "frames_mask": np.ones(len(frames), np.uint8)}
        stages["soft_tokens"] = np.array([len(frames)], np.int32)
    return stages


def times_zero(case):
    stages = dict(right(case))
    if case.kind == "video":
        stages["timestamps"] = np.zeros_like(stages["timestamps"])
    return stages


def fps_inverted(case):
    stages = dict(right(case))
    if case.kind == "video" and case.options.get("fps"):
        seconds = [int(index * case.options["fps"]) for index in stages["frame_indices"].tolist()]
        stages["timestamps"] = np.array([divmod(second, 60) for second in seconds], np.int32)
    return stages


def padded_on_the_right(case):
    stages = dict(right(case))
    if case.kind == "conversation":
        for row, valid in enumerate(stages["attention_mask"]):
            kept = valid == 1
            for name in ("token_ids", "token_types", "attention_mask"):
                array = stages[name] = stages[name].copy()
                array[row] = np.concatenate([array[row][kept], np.zeros((~kept).sum(), np.int32)])
    return stages


def eoi_lost(case):
    """Images without their end token."""
    stages = right(case)
    if case.kind != "conversation" or len(stages["token_ids"]) > 1:
        return stages
    kept = [place for place, token in enumerate(stages["token_ids"][0].tolist()) if token != 258_882]
    return {**stages, **{name: stages[name][:, kept] for name in ("token_ids", "token_types", "attention_mask")}}


def delimiters_typed(case):
    stages = dict(right(case))
    if case.kind == "conversation":
        types = stages["token_types"] = stages["token_types"].copy()
        for row, ids in enumerate(stages["token_ids"].tolist()):
            for place, token in enumerate(ids):
                if token in (255999, 256000):  # <|image>, <|audio>
                    types[row, place] = types[row, place + 1]
                elif token in (258882, 258883):  # <image|>, <audio|>
                    types[row, place] = types[row, place - 1]
    return stages


def failing(case):
    raise ZeroDivisionError(f"no {case.name} today")


def refusing(case):
    raise ValueError(f"no {case.name}, thank you")


def giving_nothing(_case):
    return {}
