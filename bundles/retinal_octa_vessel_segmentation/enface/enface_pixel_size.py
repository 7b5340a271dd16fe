"""The pixel size of an en-face OCTA: from the file, or from the field of view that the user states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SMALLEST_FIELD_MM = 1.0
LARGEST_FIELD_MM = 15.0
LARGEST_PIXEL_RATIO = 1.5
FIELD_TOLERANCE = 0.05
# Resolutions that programs write without knowing the object: screen and print. None is a scanner's (9.87 um are
# 2573.5 dpi, 6 mm on 400 pixels 1693 dpi; whole micrometres such as 2540 dpi for 10 um are not in the list).
PRINT_DPI = (
    *(72, 75, 90, 96, 100, 120, 144, 150, 180, 192, 200, 220, 240, 250, 300, 350, 360, 400),
    *(500, 600, 720, 800, 900, 1000, 1200, 1440, 2400, 4800),
)
MM_PER_INCH = 25.4

HOW_TO_GIVE_IT = (
    "give the field of view with fov_mm: on the command line --fov_mm 6 for 6 x 6 mm, or --fov_mm '[3,3]' "
    "for height and width; for single files a column fov_mm in studies.csv beside the images"
)
B_SCAN_HINT = (
    "is it an OCT B-scan (a cross-section) or a screenshot? This method needs the en-face angiogram: "
    "the maximum projection of a slab seen from above, as the device exports it"
)


def two_lengths(value: float | Sequence[float] | np.ndarray, name: str, where: str) -> tuple[float, float]:
    """(height, width) from one number or two, in mm.

    Raises:
        ValueError: anything but one or two positive finite numbers.
    """
    lengths = np.atleast_1d(np.asarray(value, dtype=float)).ravel()
    if lengths.size not in (1, 2) or not np.isfinite(lengths).all() or (lengths <= 0).any():
        raise ValueError(f"{where}: {name} is {value!r}, expected one or two positive numbers in mm (height, width)")
    return float(lengths[0]), float(lengths[-1])


def is_print_resolution(pixel_mm: float) -> bool:
    """Whether a pixel size is a common screen or print resolution, which says nothing of the retina."""
    dpi = MM_PER_INCH / pixel_mm
    return any(abs(dpi / known - 1) < 2e-3 for known in PRINT_DPI)


def field_is_plausible(pixel_mm: tuple[float, float], shape: tuple[int, int]) -> bool:
    """Whether image height and width lie in 1-15 mm."""
    return all(SMALLEST_FIELD_MM <= round(p * n, 3) <= LARGEST_FIELD_MM for p, n in zip(pixel_mm, shape, strict=True))


def resolve_pixel_size(
    shape: tuple[int, int],
    where: str,
    *,
    file_mm: tuple[float, float] | None = None,
    file_is_medical: bool = False,
    fov_mm: float | Sequence[float] | None = None,
    spacing_mm: float | Sequence[float] | None = None,
) -> tuple[tuple[float, float], list[str]]:
    """The size of a pixel in mm, (rows, columns), and remarks that the reader of the result should see.

    A size in the file counts only if it can be real: no screen or print resolution, and a field of 1-15 mm. What the
    user states (``spacing_mm``, else ``fov_mm``) wins over PNG, BMP and TIFF tags, with a remark; a DICOM or NIfTI
    header that says something else is an error, because one of the two would make every number wrong.

    Args:
        shape: image height and width in pixels.
        where: what to call the image in messages.
        file_mm: pixel size by the file's metadata, None if it has none.
        file_is_medical: DICOM or NIfTI, whose pixel size means the object and not the paper.
        fov_mm: stated height and width of the image in mm, or one number for both.
        spacing_mm: stated pixel size in mm.

    Raises:
        ValueError: no pixel size; field of view outside 1-15 mm; header and statement disagree; pixels far from
            square.
    """
    notes: list[str] = []
    stated: tuple[float, float] | None = None
    if spacing_mm is not None:
        stated = two_lengths(spacing_mm, "spacing_mm", where)
    elif fov_mm is not None:
        height, width = two_lengths(fov_mm, "fov_mm", where)
        stated = (height / shape[0], width / shape[1])
    from_file = file_mm
    unusable = ""
    if from_file is not None and not file_is_medical and any(is_print_resolution(size) for size in from_file):
        unusable = f" (its tag of {MM_PER_INCH / from_file[0]:.0f} dpi is a screen or print resolution)"
        from_file = None
    if from_file is not None and not field_is_plausible(from_file, shape):
        size = f"{from_file[0] * shape[0]:.4g} x {from_file[1] * shape[1]:.4g} mm"
        if file_is_medical and stated is None and not np.allclose(from_file, 1.0):
            raise ValueError(
                f"{where}: the field of view is {size} by the pixel size in the header ({from_file[0]:.4g} x "
                f"{from_file[1]:.4g} mm), expected {SMALLEST_FIELD_MM:g}-{LARGEST_FIELD_MM:g} mm; {B_SCAN_HINT}. "
                f"If the header is wrong, {HOW_TO_GIVE_IT}"
            )
        unusable = f" (its tag would mean an image of {size}, which is no retinal field of view)"
        from_file = None
    if stated is None:
        if from_file is None:
            if max(shape) > LARGEST_PIXEL_RATIO * min(shape):
                raise ValueError(f"{where}: {shape[0]} x {shape[1]} pixels is far from square: {B_SCAN_HINT}")
            raise ValueError(
                f"{where}: the file states no pixel size{unusable} and fov_mm is not set: {HOW_TO_GIVE_IT}"
            )
        chosen = from_file
    else:
        chosen = stated
        if from_file is not None and not np.allclose(from_file, stated, rtol=FIELD_TOLERANCE, atol=0.0):
            text = (
                f"the file says {from_file[0] * shape[0]:.4g} x {from_file[1] * shape[1]:.4g} mm, "
                f"{'spacing_mm' if spacing_mm is not None else 'fov_mm'} says "
                f"{stated[0] * shape[0]:.4g} x {stated[1] * shape[1]:.4g} mm"
            )
            if file_is_medical:
                raise ValueError(
                    f"{where}: {text}: one of them is wrong, and with it every measure. Leave fov_mm out to use the "
                    "header, or correct the header"
                )
            notes.append(f"{text}; the stated one is used")
        elif from_file is not None and file_is_medical:
            chosen = from_file
    _check_field(chosen, shape, where)
    return chosen, notes


def _check_field(pixel_mm: tuple[float, float], shape: tuple[int, int], where: str) -> None:
    height, width = pixel_mm[0] * shape[0], pixel_mm[1] * shape[1]
    ratio = max(pixel_mm) / min(pixel_mm)
    if ratio > LARGEST_PIXEL_RATIO:
        raise ValueError(
            f"{where}: pixels of {pixel_mm[0]:.4g} x {pixel_mm[1]:.4g} mm ({shape[0]} x {shape[1]} pixels on "
            f"{height:.4g} x {width:.4g} mm) are far from square: {B_SCAN_HINT}. If it is one, give height and width: "
            "fov_mm '[height,width]'"
        )
    if not field_is_plausible(pixel_mm, shape):
        raise ValueError(
            f"{where}: the field of view is {height:.4g} x {width:.4g} mm, expected "
            f"{SMALLEST_FIELD_MM:g}-{LARGEST_FIELD_MM:g} mm on each side: fov_mm is the height and width of the whole "
            "image in millimetres on the retina, not in pixels or degrees"
        )
