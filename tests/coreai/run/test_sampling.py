"""Sampling against a slow twin and against transformers' logits processors, run in this package's order."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma4_mm.coreai.run.reply import GenerationOptions
from gemma4_mm.coreai.run.sampling import Sampler, Sampling, filter_tokens
from gemma4_mm.errors import ExecutionError, InputError

V = 23
NO_IDS = np.zeros(0, np.int64)
logits_lists = st.lists(st.integers(-40, 40).map(lambda value: value / 4), min_size=V, max_size=V)
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.25, 0.7, 1.0, 3.0]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
    top_k=st.sampled_from([0, 1, 2, 5, V, 100]),
    min_p=st.sampled_from([0.0, 0.01, 0.2, 1.0]),
)


def twin(scores: list[float], sampling: Sampling) -> dict[int, float]:
    """Probability per id that can be drawn, one token at a time, by the definitions."""
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    best = scores[order[0]]
    weights = {index: math.exp((scores[index] - best) / sampling.temperature) for index in order}
    kept = [index for index in order if weights[index] >= sampling.min_p]
    total = sum(weights[index] for index in kept)
    head, mass = [], 0.0
    for index in kept:
        if head and mass >= sampling.top_p * total:
            break
        head.append(index)
        mass += weights[index]
    if sampling.top_k:
        head = head[: sampling.top_k]
    whole = sum(weights[index] for index in head)
    return {index: weights[index] / whole for index in head}


@given(values=logits_lists, sampling=samplings)
@settings(max_examples=400)
def test_filters_keep_what_the_slow_twin_keeps(values: list[float], sampling: Sampling) -> None:
    kept = filter_tokens(np.array(values, np.float32), sampling)
    expected = twin(values, sampling)
    assert sorted(kept.ids.tolist()) == sorted(expected)
    probabilities = kept.weights / kept.weights.sum()
    for index, probability in zip(kept.ids.tolist(), probabilities, strict=True):
        assert probability == pytest.approx(expected[index], rel=1e-9)


def hf_scores(scores: Any, ids: Any, sampling: Sampling, suppressed: tuple[int, ...]) -> Any:
    from transformers.generation import logits_process as hf

    chain = [hf.SuppressTokensLogitsProcessor(list(suppressed))] if suppressed else []
    if sampling.repetition_penalty != 1:
        chain.append(hf.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    chain.append(hf.TemperatureLogitsWarper(sampling.temperature))
    if sampling.min_p:
        chain.append(hf.MinPLogitsWarper(sampling.min_p))
    if sampling.top_p < 1:
        chain.append(hf.TopPLogitsWarper(sampling.top_p))
    if sampling.top_k:
        chain.append(hf.TopKLogitsWarper(sampling.top_k))
    for step in chain:
        scores = step(ids, scores)
    return scores


@pytest.mark.parity
@given(sampling=samplings, seed=st.integers(0, 2**16), penalty=st.sampled_from([1.0, 1.3, 0.8]))
@settings(max_examples=150)
def test_transformers_processors_in_this_order_keep_the_same(sampling: Sampling, seed: int, penalty: float) -> None:
    import torch

    rng = np.random.default_rng(seed)
    logits = (4 * rng.standard_normal(V)).astype(np.float32)
    prompt = rng.integers(0, V, 6)
    sampling = Sampling(**{**vars(sampling), "repetition_penalty": penalty})
    suppressed = (int(rng.integers(V)), int(rng.integers(V)))
    scores = hf_scores(torch.from_numpy(logits.copy())[None], torch.from_numpy(prompt)[None], sampling, suppressed)
    expected = scores.softmax(-1)[0].numpy()
    sampler = Sampler(sampling, vocabulary=V, prompt_ids=prompt, suppressed_ids=suppressed)
    drawn = {sampler_draw(sampler, logits, at=place) for place in np.linspace(0, 1, 400, endpoint=False)}
    assert drawn <= set(np.flatnonzero(expected > 0).tolist())
    assert {index for index, share in enumerate(expected) if share > 1 / 300} <= drawn


def sampler_draw(sampler: Sampler, logits: np.ndarray, *, at: float) -> int:
    """What is chosen where the generator says `at`; the token does not count as seen."""

    class Fixed:
        def random(self) -> float:
            return at

    sampler._generator = Fixed()  # type: ignore[assignment]
    seen = None if sampler._seen is None else sampler._seen.copy()
    token = sampler.choose(logits)
    sampler._seen = seen
    return token


def test_draws_come_as_often_as_their_probabilities_say() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    sampler = Sampler(Sampling(temperature=1.0, seed=1), vocabulary=4, prompt_ids=NO_IDS)
    n_draws = 20_000
    counts = np.bincount([sampler.choose(logits) for _ in range(n_draws)], minlength=4)
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    sigma = np.sqrt(n_draws * shares * (1 - shares))
    assert (np.abs(counts - n_draws * shares) < 4 * sigma).all()


def test_a_seed_repeats_its_draws_and_another_does_not() -> None:
    logits = np.zeros(1000, np.float32)

    def draws(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed), vocabulary=1000, prompt_ids=NO_IDS)
        return [sampler.choose(logits) for _ in range(20)]

    assert draws(5) == draws(5)
    assert draws(5) != draws(6)
    assert draws(None) != draws(None)


def test_greedy_takes_the_best_and_the_first_of_equals() -> None:
    sampler = Sampler(Sampling(), vocabulary=4, prompt_ids=NO_IDS)
    logits = np.array([1, 3, 3, 2], np.float32)
    assert sampler.choose(logits) == 1
    assert logits.tolist() == [1, 3, 3, 2]
    cold = Sampler(Sampling(temperature=1e-320, seed=0), vocabulary=4, prompt_ids=NO_IDS)
    assert cold.choose(np.array([1, 3, 0, 2], np.float32)) == 1


def test_the_penalty_counts_the_prompt_and_each_chosen_token() -> None:
    sampler = Sampler(Sampling(repetition_penalty=2.0), vocabulary=4, prompt_ids=np.array([0, 0]))
    logits = np.array([4.0, 3.0, 1.9, -1.0], np.float32)
    assert [sampler.choose(logits) for _ in range(3)] == [1, 0, 0]  # 2, 3, 1.9; then 2, 1.5, 1.9; no worse later
    negative = Sampler(Sampling(repetition_penalty=2.0), vocabulary=2, prompt_ids=np.array([0]))
    assert negative.choose(np.array([-1.0, -1.5], np.float32)) == 1


def test_suppressed_ids_are_never_chosen() -> None:
    logits = np.array([9, 8, 1], np.float32)
    for sampling in (Sampling(), Sampling(temperature=5.0, seed=0)):
        sampler = Sampler(sampling, vocabulary=3, prompt_ids=NO_IDS, suppressed_ids=(0, 1))
        assert {sampler.choose(logits) for _ in range(50)} == {2}
    with pytest.raises(InputError, match="suppressed ids go from 2 to 3; ids run from 0 to 2"):
        Sampler(Sampling(), vocabulary=3, prompt_ids=NO_IDS, suppressed_ids=(2, 3))


@pytest.mark.parametrize("fault", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_an_error_not_a_token(fault: float, temperature: float) -> None:
    sampler = Sampler(Sampling(temperature=temperature), vocabulary=3, prompt_ids=NO_IDS)
    with pytest.raises(ExecutionError, match="no token can be chosen: the best logit is"):
        sampler.choose(np.array([1, fault, 0], np.float32))
    everything = Sampler(Sampling(temperature=temperature), vocabulary=2, prompt_ids=NO_IDS, suppressed_ids=(0, 1))
    with pytest.raises(ExecutionError, match="every id is suppressed"):
        everything.choose(np.ones(2, np.float32))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1; it must be at least 0; 0 is greedy"),
        ({"temperature": float("nan")}, "temperature is nan; it must be a finite number"),
        ({"temperature": "hot"}, "temperature is 'hot'; it must be a finite number"),
        ({"top_p": 0}, "top_p is 0; it must be above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p is 1.5; it must be above 0"),
        ({"min_p": -1}, "min_p is -1; it must be from 0 to 1"),
        ({"top_k": 1.0}, "top_k is 1.0; it must be a whole number of at least 0"),
        ({"top_k": True}, "top_k is True; it must be a whole number"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0; it must be above 0"),
        ({"seed": -1}, "seed is -1; it must be a whole number of at least 0, or None"),
        ({"max_tokens": 0}, "max_tokens is 0; it must be a whole number of at least 1"),
        ({"stop_ids": 5}, "stop_ids is 5; it must be a list of token ids, or None"),
        ({"suppressed_ids": ["a"]}, r"suppressed_ids is \['a'\]; it must be a list of token ids"),
    ],
)
def test_options_out_of_range_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GenerationOptions(**fields)
