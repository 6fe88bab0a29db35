"""A right port in plain numpy, written from SCHEMA.md alone; `rules` plants one wrong line at a time in its text.

It imports numpy and nothing of the package, and each function is short, so that a mutant is one replaced expression.
Stages come in the order in which a comparison wants them: it can stop at the first that differs.
"""

import math

import numpy as np

SIDE = 48
FACTOR = np.float32(1 / 255)


# Pictures


def composite(rgba):
    colour, alpha = rgba[..., :3].astype(np.int64), rgba[..., 3:].astype(np.int64)
    t = 128 * (colour * alpha + 255 * (255 - alpha)) + 16384
    return (((t >> 8) + t) >> 15).astype(np.uint8)


def turn(rgb, orientation):
    if orientation in (5, 6, 7, 8):
        rgb = rgb.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)


def target_size(height, width, budget):
    f = math.sqrt((budget * 2304) / (height * width))
    rows = math.floor(f * height / 48)
    columns = math.floor(f * width / 48)
    if rows == 0:
        rows, columns = 1, min(math.floor(width / height), budget)
    elif columns == 0:
        rows, columns = min(math.floor(height / width), budget), 1
    return rows, columns


def cubic(x):
    near = ((1.5 * x - 2.5) * x) * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def precision(largest):
    p = 0
    while p < 22 and math.trunc(0.5 + largest * 2 ** (p + 1)) < 32768:
        p += 1
    return p


def axis_weights(n, m):
    s = n / m
    support = 2 * max(s, 1)
    inverse = 1 / s if s >= 1 else 1
    centre = s * (np.arange(m) + 0.5)
    first = np.maximum(np.trunc(centre - support + 0.5), 0).astype(np.int64)
    stop = np.minimum(np.trunc(centre + support + 0.5), n).astype(np.int64)
    j = np.arange((stop - first).max())
    w = cubic(np.abs((j + first[:, None] - centre[:, None] + 0.5) * inverse))
    w = np.where(j < (stop - first)[:, None], w, 0.0)
    w = w / np.cumsum(w, axis=1)[:, -1:]
    p = precision(w.max())
    fixed = np.trunc(w * 2.0**p + np.where(w < 0, -0.5, 0.5)).astype(np.int64)
    return first, fixed, p


def resize_axis(pixels, m):
    """Resize the second axis of `(rows, n, values)` to m."""
    n = pixels.shape[1]
    if n == m:
        return pixels
    first, fixed, p = axis_weights(n, m)
    total = np.full((len(pixels), m, pixels.shape[2]), 2 ** (p - 1), np.int32)
    for j in range(fixed.shape[1]):
        place = np.minimum(first + j, n - 1)
        total += fixed[:, j].astype(np.int32)[:, None] * pixels[:, place]
    return np.clip(total >> p, 0, 255).astype(np.uint8)


def across(rgb, width):
    return resize_axis(rgb, width)


def down(rgb, height):
    return resize_axis(rgb.reshape(1, len(rgb), -1), height).reshape(height, -1, 3)


def resize(rgb, height, width):
    wide = across(rgb, width)
    return down(wide, height)


def rescale_image(levels):
    return levels.astype(np.float32) * FACTOR


def rescale_frame(levels):
    return levels.astype(np.float32) / np.float32(255)


def cut(rgb, rows, columns):
    tiles = rgb.reshape(rows, SIDE, columns, SIDE, 3)
    return tiles.transpose(0, 2, 1, 3, 4).reshape(rows * columns, -1)


def patches(resized, rows, columns, budget, kind):
    rescale = rescale_image if kind == "image" else rescale_frame
    out = np.zeros((budget, 6912), np.float32)
    out[: rows * columns] = rescale(cut(resized, rows, columns))
    return out


def position_ids(rows, columns, budget):
    y, x = np.divmod(np.arange(rows * columns), columns)
    out = np.full((budget, 2), -1, np.int32)
    out[: rows * columns] = np.stack([x, y], axis=1)
    return out


def ints(*values):
    return np.array(values, np.int32)


def pictures(frames, budget, kind):
    """Stages of pictures of one size after their source, with a first axis."""
    rows, columns = target_size(frames[0].shape[0], frames[0].shape[1], budget)
    yield "target_size", ints(SIDE * rows, SIDE * columns)
    yield "position_ids", np.stack([position_ids(rows, columns, budget)] * len(frames))
    yield "soft_tokens", ints(*[rows * columns] * len(frames))
    resized = [resize(frame, SIDE * rows, SIDE * columns) for frame in frames]
    yield "resized_rgb", np.stack(resized)
    yield "patches", np.stack([patches(one, rows, columns, budget, kind) for one in resized])


def image(inputs, parameters):
    source = inputs.get("source_rgb")
    if source is None:
        source = turn(composite(inputs["source_rgba"]), int(inputs["orientation"][0]))
        yield "source_rgb", source
    for name, value in pictures([source], parameters["max_soft_tokens"], "image"):
        yield name, value[0] if name in ("position_ids", "resized_rgb", "patches") else value


# Videos


def frame_indices(total, n):
    return [i * total // n for i in range(n)]


def timestamp(index, fps):
    t = index / fps
    r = math.fmod(t, 60)
    return int((t - r) / 60), math.floor(r)


def video(inputs, parameters):
    source, given = inputs["source_rgb"], parameters["frame_indices"]
    n = len(source) if given or parameters["num_frames"] is None else parameters["num_frames"]
    taken = frame_indices(len(source), n)
    indices = given or taken
    yield "frame_indices", ints(*indices)
    yield "timestamps", np.array([timestamp(index, parameters["fps"]) for index in indices], np.int32)
    yield from pictures([source[i] for i in taken], parameters["max_soft_tokens"], "video")


# Sound


def waveform(inputs):
    if "pcm" in inputs:
        return inputs["pcm"]
    return (inputs["pcm_u8"].astype(np.float32) - np.float32(128)) / np.float32(128)


def frame_waveform(samples):
    n = -(-len(samples) // 640)
    out = np.zeros((n, 640), np.float32)
    out.reshape(-1)[: len(samples)] = samples
    return out


def audio(inputs, parameters):  # noqa: ARG001 (as its siblings)
    frames = frame_waveform(waveform(inputs))
    yield "frames", frames
    yield "frames_mask", np.ones(len(frames), np.uint8)
    yield "soft_tokens", ints(len(frames))


# Masks


def blocks(types):
    """Number the vision blocks of a row from 1; 0 outside."""
    vision = (types == 1) | (types == 2)
    begins = vision & ~np.concatenate([[False], vision[:-1]])
    return np.where(vision, np.cumsum(begins), 0)


def sees(rule, q, k, window, block):
    if rule == "sliding_forward":
        return ((k <= q) & (k > q - window)) | block
    if rule == "global_forward":
        return (k <= q) | block
    if rule == "sliding_static":
        return (k > q - window) & ((k <= q) | block)
    if rule == "sliding_deepmind":
        return (q - window < k) & (k < q + window) & ((k <= q) | block)
    return (k <= q) & np.ones_like(block)  # global_static, global_deepmind


def mask(rule, types, attention, window):
    places = np.arange(types.shape[1])
    rows = []
    for row, valid in zip(types, attention, strict=True):
        number = blocks(row)
        block = (number[:, None] == number[None, :]) & (number[:, None] > 0)
        rows.append(sees(rule, places[:, None], places[None, :], window, block) & (valid[None, :] == 1))
    return np.stack(rows).astype(np.uint8)


def plan_row(types, limit):
    number = blocks(types)
    inside = [i > 0 and number[i] > 0 and number[i] == number[i - 1] for i in range(len(types))] + [False]
    place = 0
    while place < len(types):
        end = min(place + limit, len(types))
        while end > place and inside[end]:
            end -= 1
        if end == place:
            end += 1
            while inside[end]:
                end += 1
        yield place, end
        place = end


def masks(inputs, parameters):
    types, attention = inputs["token_types"], inputs["attention_mask"]
    yield "chunk_plan", ints(*[(r, *c) for r, row in enumerate(types) for c in plan_row(row, parameters["max_chunk"])])
    for way in ("forward", "static", "deepmind"):
        for layer in ("sliding", "global"):
            yield f"mask_{layer}_{way}", mask(f"{layer}_{way}", types, attention, parameters["window"])


# Conversations


def soft_run(kind, n, special):
    begin, end = (special["boa"], special["eoa"]) if kind == "audio" else (special["boi"], special["eoi"])
    return [begin, *[special[kind]] * n, end]


def expand(ids, counts, special):
    kinds = {special[kind]: kind for kind in ("image", "video", "audio")}
    out = []
    for token in ids:
        out += soft_run(kinds[token], next(counts[kinds[token]]), special) if token in kinds else [token]
    return out


def types_of(ids, special):
    numbers = {special["image"]: 1, special["video"]: 2, special["audio"]: 3}
    return [numbers.get(token, 0) for token in ids]


def pad(rows, value):
    length = max(map(len, rows))
    return np.array([[value] * (length - len(row)) + row for row in rows], np.int32)


def conversation(inputs, parameters, prompts, special):
    made = {"image": [], "video": [], "audio": []}
    for medium in parameters["media"]:
        kind, value = medium["kind"], inputs[medium["input"]]
        steps = (
            audio({"pcm": value}, medium)
            if kind == "audio"
            else {"image": image, "video": video}[kind]({"source_rgb": value}, medium)
        )
        made[kind].append(dict(steps))
    counts = {kind: iter([n for one in made[kind] for n in one["soft_tokens"].tolist()]) for kind in made}
    rows = [expand(ids, counts, special) for ids in prompts]
    yield "token_ids", pad(rows, special["pad"])
    yield "token_types", pad([types_of(row, special) for row in rows], 0)
    yield "attention_mask", pad([[1] * len(row) for row in rows], 0)
    if made["image"]:
        yield "image_position_ids", np.stack([one["position_ids"] for one in made["image"]])
        yield "pixel_values", np.stack([one["patches"] for one in made["image"]])
    if made["video"]:
        yield "num_frames_per_video", ints(*[len(one["frame_indices"]) for one in made["video"]])
        yield "video_position_ids", np.concatenate([one["position_ids"] for one in made["video"]])
        yield "pixel_values_videos", np.concatenate([one["patches"] for one in made["video"]])
    if made["audio"]:
        yield from features([one["frames"] for one in made["audio"]])


def features(sounds):
    longest = max(map(len, sounds))
    yield "input_features", np.stack([np.pad(one, ((0, longest - len(one)), (0, 0))) for one in sounds])
    yield "input_features_mask", np.array([[1] * len(one) + [0] * (longest - len(one)) for one in sounds], np.uint8)
