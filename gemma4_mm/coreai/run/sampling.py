"""From logits to a token: greedy, or drawn from what the filters leave, by a seeded generator.

The order is that of Apple's own samplers: repetition penalty, temperature, min-p, top-p, top-k, softmax. Each filter
has Hugging Face's meaning; Hugging Face runs them in another order.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gemma4_mm.errors import ExecutionError, InputError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen; the defaults are greedy. The model card suggests 1.0, top-p 0.95, top-k 64.

    Attributes:
        temperature: 0 takes the likeliest token; else logits are divided by it, and a token is drawn.
        top_p: keep the fewest likeliest tokens that hold this share of the probability; 1 keeps all.
        top_k: keep this many of the likeliest tokens; 0 keeps all.
        min_p: keep tokens with at least this share of the likeliest one's probability; 0 keeps all.
        repetition_penalty: divides positive logits and multiplies negative ones of every id that the prompt or the
            reply holds, placeholders included; 1 changes nothing. The only setting that greedy choice uses.
        seed: of the draws: the same seed, prompt and weights give the same tokens. None for another one at each reply.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        finite = {name: _number(name, getattr(self, name)) for name in ("temperature", "top_p", "min_p")}
        penalty = _number("repetition_penalty", self.repetition_penalty)
        for name, fits, wanted in (
            ("temperature", finite["temperature"] >= 0, "at least 0; 0 is greedy"),
            ("top_p", 0 < finite["top_p"] <= 1, "above 0 and at most 1; 1 keeps all"),
            ("min_p", 0 <= finite["min_p"] <= 1, "from 0 to 1; 0 keeps all"),
            ("repetition_penalty", penalty > 0, "above 0; 1 changes nothing"),
            ("top_k", _is_count(self.top_k), "a whole number of at least 0; 0 keeps all"),
            ("seed", self.seed is None or _is_count(self.seed), "a whole number of at least 0, or None"),
        ):
            if not fits:
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be {wanted}")


class Sampler:
    """Chooses the tokens of one reply.

    Args:
        sampling: how.
        vocabulary: width of the logits.
        prompt_ids: ids that the repetition penalty counts as seen.
        suppressed_ids: ids that are never chosen.

    Raises:
        InputError: a suppressed id outside the vocabulary.
    """

    def __init__(
        self, sampling: Sampling, *, vocabulary: int, prompt_ids: NDArray[np.int64], suppressed_ids: Iterable[int] = ()
    ) -> None:
        self._sampling = sampling
        self._suppressed = np.unique(np.array(list(suppressed_ids), np.int64))
        if self._suppressed.size and not 0 <= self._suppressed[0] <= self._suppressed[-1] < vocabulary:
            raise InputError(
                f"suppressed ids go from {self._suppressed[0]} to {self._suppressed[-1]}; ids run from 0 to "
                f"{vocabulary - 1}"
            )
        self._generator = np.random.default_rng(sampling.seed)
        self._seen: NDArray[np.bool_] | None = None  # a mark per id, so that a token costs no more late than early
        if sampling.repetition_penalty != 1:
            self._seen = np.zeros(vocabulary, np.bool_)
            self._seen[prompt_ids] = True

    def choose(self, logits: NDArray[np.float32]) -> int:
        """Choose one token from float32 `(vocabulary,)`, which is left as it was.

        Raises:
            ExecutionError: the logits are not finite, or every id is suppressed.
        """
        scores = logits
        if self._suppressed.size:
            scores = logits.copy()
            scores[self._suppressed] = -np.inf
        if self._seen is not None:
            penalty = np.float32(self._sampling.repetition_penalty)
            scores = np.where(self._seen, np.where(scores < 0, scores * penalty, scores / penalty), scores)
        token = int(scores.argmax())  # the first NaN, if there is one
        if not math.isfinite(scores[token]):
            raise ExecutionError(
                f"no token can be chosen: the best logit is {scores[token]}, of id {token}; the weights may be damaged "
                "or overflow in the asset's element type, or every id is suppressed"
            )
        if self._sampling.temperature > 0:
            kept = filter_tokens(scores, self._sampling)
            cumulated = np.cumsum(kept.weights)
            place = int(np.searchsorted(cumulated, self._generator.random() * cumulated[-1], side="right"))
            token = int(kept.ids[min(place, len(kept.ids) - 1)])
        if self._seen is not None:
            self._seen[token] = True
        return token


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Tokens that may be drawn.

    Attributes:
        ids: int64; likeliest first if a filter is on, a lower id before a higher one of the same weight.
        weights: float64, proportional to the probabilities.
    """

    ids: NDArray[np.int64]
    weights: NDArray[np.float64]


def filter_tokens(scores: NDArray[np.float32], sampling: Sampling) -> Candidates:
    """Apply temperature, min-p, top-p and top-k to `(vocabulary,)` scores, of which the best is finite.

    min-p, top-p and top-k each keep a head of the same order, so that only tokens which can be in all three are sorted.
    """
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the best to -inf
        scaled = (scores - scores.max()).astype(np.float64) / sampling.temperature
    weights = np.exp(scaled)  # relative to the likeliest token, hence what min-p compares
    lowest = sampling.min_p
    if sampling.min_p == 0 and sampling.top_p == 1 and sampling.top_k == 0:
        return Candidates(ids=np.arange(len(weights)), weights=weights)
    total = float(weights[weights >= lowest].sum())
    if sampling.top_p < 1:
        # Tokens below this hold together less than half of what top-p leaves out: none of them can be in its head.
        lowest = max(lowest, 0.5 * (1 - sampling.top_p) * total / len(weights))
    if 0 < sampling.top_k < len(weights):
        lowest = max(lowest, float(np.partition(weights, -sampling.top_k)[-sampling.top_k]))
    ids = np.flatnonzero(weights >= lowest)
    ids = ids[np.argsort(-weights[ids], kind="stable")]
    kept = weights[ids]
    if sampling.top_p < 1:
        before = np.cumsum(kept) - kept
        ids = ids[: max(1, int((before < sampling.top_p * total).sum()))]
    if sampling.top_k:
        ids = ids[: sampling.top_k]
    return Candidates(ids=ids, weights=kept[: len(ids)])


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise InputError(f"{name} is {value!r}; it must be a finite number")
    return float(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
