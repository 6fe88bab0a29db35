"""The usual suspects: known mistakes, found by computing what each of them would give.

A mistake is a row of a table: a name, words, the stages that it can show in, and a function that makes the array. It is
named only where its array agrees with the subject's: nothing is guessed from the size of a difference.
"""

from collections.abc import Sequence

from gemma4_mm.conformance.records import Suspect
from gemma4_mm.conformance.suspects.masks import MASK_THEORIES
from gemma4_mm.conformance.suspects.patches import PATCH_THEORIES
from gemma4_mm.conformance.suspects.pictures import NO_NEW_MISTAKE, PICTURE_THEORIES
from gemma4_mm.conformance.suspects.scene import Scene, Theory, judge
from gemma4_mm.conformance.suspects.sounds import SOUND_THEORIES
from gemma4_mm.conformance.suspects.tokens import TOKEN_THEORIES
from gemma4_mm.conformance.suspects.videos import VIDEO_THEORIES

__all__ = ["NO_NEW_MISTAKE", "THEORIES", "Scene", "Theory", "find_suspects"]

THEORIES: tuple[Theory, ...] = (
    *PICTURE_THEORIES,
    *PATCH_THEORIES,
    *VIDEO_THEORIES,
    *SOUND_THEORIES,
    *MASK_THEORIES,
    *TOKEN_THEORIES,
)


def find_suspects(
    scene: Scene, stage: str, *, likely: Sequence[str] = (), known: Sequence[str] | None = None
) -> tuple[Suspect, ...]:
    """Compute the mistakes that can show in a stage, and return those that give the subject's values, likeliest first.

    A suspect explains at least nine tenths of the values that differ, and makes few differences of its own. The search
    ends at one that explains all of them.

    Args:
        scene: the case and both sides.
        stage: the one that differs.
        likely: names to try first, such as those found in other cases.
        known: names to try beside consequences of an earlier stage, and no others; None for all.
    """
    found: list[Suspect] = []
    possible = [
        theory
        for theory in THEORIES
        if theory.applies(scene.case, stage)
        and (known is None or theory.name in known or theory.name.startswith("follows-"))
    ]
    for theory in sorted(possible, key=lambda theory: _rank(theory.name, likely)):
        suspect = judge(theory, scene, stage)
        if suspect is not None:
            found.append(suspect)
            if suspect.explained == 1:
                break
    return tuple(sorted(found, key=lambda suspect: -suspect.explained))


def _rank(name: str, likely: Sequence[str]) -> int:
    """Consequences of an earlier stage first, then the likely ones."""
    if name.startswith("follows-from"):
        return -1
    return likely.index(name) if name in likely else len(likely)
