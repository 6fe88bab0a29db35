"""How media may be read: one record that travels from the processor to every decoder."""

from dataclasses import dataclass
from typing import Final

from gemma4_mm.limits import Limits
from gemma4_mm.media.bounds import DEFAULT_LIMITS
from gemma4_mm.releases import DEFAULT_PROFILE, Profile


@dataclass(frozen=True, kw_only=True)
class MediaAccess:
    """Reference behaviour, bounds, and the network.

    Attributes:
        profile: names the treatment of transparency and EXIF, and the rule of sampling frames.
        limits: bounds, checked by the header before anything is decoded.
        allow_network: whether an http(s) URL may be fetched.
    """

    profile: Profile = DEFAULT_PROFILE
    limits: Limits = DEFAULT_LIMITS
    allow_network: bool = False


DEFAULT_ACCESS: Final = MediaAccess()
