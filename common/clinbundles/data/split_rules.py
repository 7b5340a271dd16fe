"""Assignment of cases to splits: by explicit lists, by a seeded rule over patients, or by a folder's name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from clinbundles.data.problems import ManifestError


def seeded_split(patient: str, seed: int, fractions: Mapping[str, float]) -> str:
    """Split of one patient; a pure function of patient, seed and fractions.

    SHA-256 of `seed:patient` is read as a number u in [0, 1); the splits take consecutive intervals of [0, 1) as
    long as their fractions, in their order. A patient who joins the cohort moves nobody else; in return the sizes
    meet the fractions only on average.
    """
    digest = hashlib.sha256(f"{seed}:{patient}".encode()).digest()
    position, end = int.from_bytes(digest[:8], "big") / 2**64, 0.0
    for name, fraction in fractions.items():
        end += fraction
        if position < end:
            return name
    return name  # the fractions' sum may miss 1 by rounding


def listed_cases(entries: list[Any]) -> list[str]:
    """Case ids of an explicit list; `{from: 3, to: 5}` stands for 3, 4, 5."""
    cases: list[str] = []
    for entry in entries:
        if isinstance(entry, dict):
            cases += [str(number) for number in range(entry["from"], entry["to"] + 1)]
        else:
            cases.append(str(entry))
    return cases


def assign_splits(cases: Mapping[str, Mapping[str, Any]], splits: Mapping[str, Any]) -> dict[str, list[str]]:
    """Split -> case ids, for the cases found on disk (id -> field values).

    An explicit list is returned as it stands, with cases that are not on disk. A case's patient is its field
    `patient`, or the case itself.

    Raises:
        ManifestError: one patient would be in two splits, or a case has no value for the rule's field.
    """
    (form, rule), *_ = splits.items()
    if form == "explicit":
        assigned = {name: listed_cases(entries) for name, entries in rule.items()}
    elif form == "seeded":
        assigned = {name: [] for name in rule["fractions"]}
        for case, values in cases.items():
            assigned[seeded_split(patient_of(case, values), rule["seed"], rule["fractions"])].append(case)
    else:
        of_value = {value: name for name, values in rule["values"].items() for value in values}
        assigned = {name: [] for name in rule["values"]}
        for case, values in cases.items():
            if rule["field"] not in values:
                raise ManifestError(
                    f"{case!r} has no {rule['field']!r}, by which the manifest splits: add it, or use a seeded rule"
                )
            if values[rule["field"]] in of_value:
                assigned[of_value[values[rule["field"]]]].append(case)
    _refuse_shared_patients(assigned, cases)
    return assigned


def patient_of(case: str, values: Mapping[str, Any]) -> str:
    """Patient id of a case: its field `patient`, or the case's own id."""
    return str(values.get("patient", case))


def _refuse_shared_patients(assigned: dict[str, list[str]], cases: Mapping[str, Mapping[str, Any]]) -> None:
    split_of: dict[str, str] = {}
    for split, names in assigned.items():
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ManifestError(f"split {split!r} lists case {twice!r} twice")
        for case in names:
            patient = patient_of(case, cases.get(case, {}))
            if split_of.setdefault(patient, split) != split:
                raise ManifestError(
                    f"patient {patient!r} (case {case!r}) is in the splits {split_of[patient]!r} and {split!r}: "
                    "results would be too good; put all cases of a patient into one split"
                )
