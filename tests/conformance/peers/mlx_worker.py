"""Runs in mlx-vlm's environment: its image, video and audio processors, called as its own `Gemma4Processor` does.

python mlx_worker.py DIRECTORY_OF_SERVE_AND_GIVEN
"""

import importlib
import sys
from importlib import metadata

sys.path.insert(0, sys.argv[1])
serve = importlib.import_module("serve")


def begin():
    given = importlib.import_module("given")
    import numpy as np

    peer = importlib.import_module("mlx_vlm.models.gemma4_unified.processing_gemma4_unified")

    def levels(patches, ids):
        """Uint8 `(height, width, 3)` back from patches 0…1."""
        columns, rows = (int(n) + 1 for n in ids.max(axis=0))
        tiles = patches[: rows * columns].reshape(rows, columns, 48, 48, 3).transpose(0, 2, 1, 3, 4)
        return np.rint(tiles.reshape(rows * 48, columns * 48, 3) * 255).astype(np.uint8)

    def image(inputs, options, folder):
        value = given.image_argument(inputs, options, folder)
        processor = peer.Gemma4UnifiedImageProcessor(max_soft_tokens=options.get("max_soft_tokens", 280))
        data, counts = processor.preprocess([value])
        patches, ids = np.asarray(data["pixel_values"][0]), np.asarray(data["image_position_ids"][0])
        resized = levels(patches, ids)
        return {
            "target_size": np.array(resized.shape[:2], np.int32),
            "resized_rgb": resized,
            "patches": patches,
            "position_ids": ids.astype(np.int32),
            "soft_tokens": np.array(counts, np.int32),
        }

    def video(inputs, options, folder):  # noqa: ARG001 (as its siblings)
        frames = inputs["frames"].transpose(0, 3, 1, 2)
        sampled = options.get("do_sample_frames", True)
        processor = peer.Gemma4UnifiedVideoProcessor(
            max_soft_tokens=options.get("max_soft_tokens", 70),
            num_frames=options.get("num_frames", 32) if sampled else len(frames),
        )
        data = processor([frames], fps=[options.get("fps")])
        patches, ids = np.asarray(data["pixel_values_videos"]), np.asarray(data["video_position_ids"])
        times = [divmod(int(second), 60) for second in data["frame_timestamps"][0]]
        resized = np.stack([levels(*frame) for frame in zip(patches, ids, strict=True)])
        indices = processor._sample_frames(np.arange(len(frames)), processor.num_frames)
        return {
            "frame_indices": indices.astype(np.int32) if sampled else np.array(options["frames_indices"], np.int32),
            "timestamps": np.array(times, np.int32),
            "target_size": np.array(resized.shape[1:3], np.int32),
            "resized_rgb": resized,
            "patches": patches,
            "position_ids": ids.astype(np.int32),
            "soft_tokens": np.array(data["num_soft_tokens_per_frame"] * len(patches), np.int32),
        }

    def audio(inputs, options, folder):
        value = given.audio_argument(inputs, options, folder)
        if isinstance(value, str):
            value = importlib.import_module("mlx_vlm.utils").load_audio(value, 16_000)
        data = peer.Gemma4UnifiedAudioFeatureExtractor()([np.asarray(value)], max_length=options.get("max_length"))
        mask = np.asarray(data["input_features_mask"][0])
        return {
            "frames": np.asarray(data["input_features"][0]),
            "frames_mask": mask.astype(np.uint8),
            "soft_tokens": np.array([mask.sum()], np.int32),
        }

    steps = {"image": image, "video": video, "audio": audio}

    def compute(case, inputs, folder):
        return steps[case["kind"]](inputs, case["options"], folder)

    return compute, {"mlx-vlm": metadata.version("mlx-vlm")}


if __name__ == "__main__":
    serve.serve(begin)
