"""What a mutant is."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """The right port with one expression of its text replaced.

    Attributes:
        name: what is wrong, in words.
        right: text of `port.py`, which is there once.
        wrong: what stands in its place.
        named: the suspect that `conform` has to name first; "" where no suspect gives this mistake.
        case: a case to try first, which shows it.
        proof: of an equivalent mutant, why no case can fail it; "" for all others.
    """

    name: str
    right: str
    wrong: str
    named: str = ""
    case: str = ""
    proof: str = ""
