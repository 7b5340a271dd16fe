"""Which series a bundle takes, by regular expressions on DICOM attributes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from clinbundles.dicom.series_error import SeriesError
from clinbundles.dicom.series_listing import DicomSeries


def mismatches(series: DicomSeries, rules: Mapping[str, str]) -> list[str]:
    """What a series has against it: every rule that does not hold, with what was found; [] if it is taken.

    Args:
        series: a listed series.
        rules: DICOM keyword -> regular expression that the whole value must match, upper and lower case alike; the
            values of an attribute with several are joined by a backslash.

    Raises:
        SeriesError: a rule that is no regular expression, no DICOM keyword, or about a person.
    """
    found = []
    if series.damaged:
        return ["its header cannot be read"]
    if not series.has_image:
        found.append(f"it holds no image (it is a {series.sop_class})")
    for keyword, expression in rules.items():
        value = series.attributes(keyword)
        try:
            fits = re.fullmatch(expression, value, flags=re.IGNORECASE) is not None
        except re.error as error:
            raise SeriesError(f"rule for {keyword}: '{expression}' is no regular expression: {error}") from None
        if not fits:
            found.append(f"{keyword} is '{value}', expected '{expression}'" if value else f"it states no {keyword}")
    return found


def matches(series: DicomSeries, rules: Mapping[str, str]) -> bool:
    """Whether a series is an image and every rule holds."""
    return not mismatches(series, rules)


def select_series(series: Iterable[DicomSeries], rules: Mapping[str, str]) -> tuple[list[DicomSeries], list[str]]:
    """The series that a bundle takes, and one line for each other one that says why not."""
    chosen, reasons = [], []
    for candidate in series:
        against = mismatches(candidate, rules)
        if against:
            reasons.append(f"{candidate}: {'; '.join(against)}")
        else:
            chosen.append(candidate)
    return chosen, reasons
