"""ICC profiles of colour spaces that a file names or describes by numbers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nst.image.samples import UnsupportedError

SRGB = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
D65 = (0.3127, 0.3290)
_C = (0.310, 0.316)

#: The arguments of ``of_primaries`` for Adobe RGB (1998).
ADOBE = ((0.640, 0.330, 0.210, 0.710, 0.150, 0.060), D65, 563 / 256)

#: Chromaticities (x, y) of red, green and blue, and of white, by code point (ITU-T H.273, table 2); 2 is unspecified.
_PRIMARIES: dict[int, tuple[tuple[float, ...], tuple[float, float]]] = {
    1: (SRGB, D65),  # BT.709
    2: (SRGB, D65),
    4: ((0.670, 0.330, 0.210, 0.710, 0.140, 0.080), _C),  # BT.470 M
    5: ((0.640, 0.330, 0.290, 0.600, 0.150, 0.060), D65),  # BT.601 with 625 lines
    6: ((0.630, 0.340, 0.310, 0.595, 0.155, 0.070), D65),  # BT.601 with 525 lines
    7: ((0.630, 0.340, 0.310, 0.595, 0.155, 0.070), D65),  # SMPTE 240M
    9: ((0.708, 0.292, 0.170, 0.797, 0.131, 0.046), D65),  # BT.2020
    11: ((0.680, 0.320, 0.265, 0.690, 0.150, 0.060), (0.314, 0.351)),  # DCI-P3
    12: ((0.680, 0.320, 0.265, 0.690, 0.150, 0.060), D65),  # Display P3
    22: ((0.630, 0.340, 0.295, 0.605, 0.155, 0.077), D65),  # EBU 3213
}

#: The exponent by code point (ITU-T H.273, table 3); None is the curve of sRGB. The curves of BT.601, BT.709 and
#: BT.2020 are a camera's: their pictures are shown with that of sRGB, as browsers do.
_EXPONENTS: dict[int, float | None] = {
    1: None, 2: None, 4: 2.2, 5: 2.8, 6: None, 8: 1.0, 11: None, 12: None, 13: None, 14: None, 15: None,
}  # fmt: skip

_HIGH_RANGE = {16: "PQ", 18: "HLG"}


def of_codes(primaries: int, transfer: int) -> bytes | None:
    """Return the profile of two code points of ITU-T H.273; None for sRGB.

    Raise UnsupportedError for high dynamic range, and for spaces that are not known.
    """
    if transfer in _HIGH_RANGE:
        raise UnsupportedError(
            f"a picture of high dynamic range ({_HIGH_RANGE[transfer]}); convert it to sRGB, and save it as PNG"
        )
    if primaries not in _PRIMARIES or transfer not in _EXPONENTS:
        raise UnsupportedError(
            f"a picture in a rare colour space (ITU-T H.273: primaries {primaries}, transfer {transfer}); "
            "convert it to sRGB, and save it as PNG"
        )
    return of_primaries(*_PRIMARIES[primaries], _EXPONENTS[transfer])


def of_primaries(primaries: Sequence[float], white: Sequence[float], exponent: float | None) -> bytes | None:
    """Return the profile of the chromaticities (x, y) of red, green and blue, and of white; None for sRGB.

    An ``exponent`` of None is the curve of sRGB. Numbers that describe no colours count as sRGB.
    """
    import imagecodecs

    if exponent is None and (tuple(primaries), tuple(white)) == (SRGB, D65):
        return None
    curve = {"transferfunction": _srgb_curve()} if exponent is None else {"gamma": exponent}
    points = [value for place in (0, 2, 4) for value in (*primaries[place : place + 2], 1.0)]
    try:
        made: bytes = imagecodecs.cms_profile("rgb", whitepoint=[*white, 1.0], primaries=points, **curve)
    except imagecodecs.CmsError:
        return None
    return made


def _srgb_curve() -> NDArray[np.float32]:
    values = np.linspace(0, 1, 4096)
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)
