"""Templates that would take the machine: every one ends as a typed error, soon."""

import time

import pytest

from gemma4_mm.errors import Gemma4MMError
from gemma4_mm.prompt.template import ChatTemplate
from tests.prompt.outcome import ours

HELLO = [{"role": "user", "content": "hi", "n": 10**10}]
_GROW = "{% set ns = namespace(x=SEED) %}{% for i in range(60) %}{% set ns.x = STEP %}{% endfor %}{{ ns.x | length }}"
BOMBS = [
    "{{ 'x' * 10**10 }}",
    "{{ 'x' * messages[0].n }}",
    "{{ [1] * 10**10 }}",
    "{{ 10 ** (10 ** 10) }}",
    "{{ 'x'.center(10**10) }}{{ 'x' | center(10**10) }}",
    "{{ '%10000000000d' % 1 }}",
    "{{ '%*d' % (10**10, 1) }}",
    "{{ '{:>10000000000}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 10**10) }}",
    "{{ '\\t'.expandtabs(10**10) }}",
    "{{ [1] | batch(10**10, 'x') | list }}",
    "{{ [1] | slice(10**10) | list }}",
    "{{ [[[1]]] | tojson(indent=10**10) }}",
    "{{ lipsum(n=10**9) }}",
    "{{ 'a\\nb' | indent(10**10) }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}text{% endfor %}{% endfor %}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% for a in range(99999) %}{{ range(99999) | map('string') | join | length }}{% endfor %}",
    "{% for a in [1] recursive %}{{ loop(range(9999)) if loop.depth < 9 }}{% endfor %}",
    _GROW.replace("SEED", "'x'").replace("STEP", "ns.x ~ ns.x"),
    _GROW.replace("SEED", "'x'").replace("STEP", "ns.x + ns.x"),
    _GROW.replace("SEED", "[1]").replace("STEP", "[ns.x, ns.x]"),
    _GROW.replace("SEED", "'x'").replace("STEP", "ns.x.replace('x', 'xxxxxxxx')"),
    _GROW.replace("SEED", "'x'").replace("STEP", "ns.x.join([ns.x, ns.x])"),
    _GROW.replace("SEED", "3").replace("STEP", "ns.x * ns.x"),
    "{% for i in range(99999) %}" * 25 + "{% endfor %}" * 25,
    "{% break %}",
    "{{ 1e400 }}",
    "{{ 'abcdefgh' | truncate(-5) }}",
    "{{ missing_function() }}",
    "(" * 5000,
    "{{ " + "(" * 5000 + ")" * 5000 + " }}",
    "{{ " + "not " * 5000 + "x }}",
]


@pytest.mark.parametrize("source", BOMBS, ids=range(len(BOMBS)))
def test_a_bomb_is_a_typed_error_within_seconds(source: str) -> None:
    start = time.process_time()
    text = ours(lambda: ChatTemplate(source).render(HELLO))
    assert len(text) < 10_000
    assert time.process_time() - start < 10


@pytest.mark.parametrize("source", BOMBS[:4], ids=range(4))
def test_a_bomb_is_no_text(source: str) -> None:
    with pytest.raises(Gemma4MMError):
        ChatTemplate(source).render(HELLO)


def test_an_ordinary_long_conversation_is_within_the_budget(template: ChatTemplate) -> None:
    turns = [{"role": role, "content": "word " * 200} for role in ("user", "assistant")] * 400
    assert len(template.render(turns)) > 700_000
