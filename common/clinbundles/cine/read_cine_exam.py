"""Reading of a cine exam: its files, which view each is, the same phases for all, and the exam frame."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from clinbundles.cine.cine_exam import LAX_VIEWS, CineExam, CineExamError, CineView
from clinbundles.cine.cine_files import exam_files, read_nifti_cine, read_planes
from clinbundles.cine.cycle_phases import at_phases, cycle_fractions
from clinbundles.cine.exam_frame import exam_axes, frame_to_world
from clinbundles.cine.exam_labels import is_label_file, read_label, with_label, with_labels
from clinbundles.cine.find_views import RoughCentre, likeliest_centre, long_axis_views, short_axis_planes
from clinbundles.cine.lv_centre import lv_centre, right_ventricle_angle, rough_lv_centres
from clinbundles.cine.view_checks import check_long_axis, check_view

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def read_cine_exam(
    image: Paths,
    views: Sequence[str] | None = None,
    *,
    series_rules: Mapping[str, str] | None = None,
    labels: bool = False,
    ed_frame: int = 0,
) -> CineExam:
    """Read an exam whose files may be named anything: NIfTI (I, J, K, T) or DICOM series.

    Args:
        image: folder or files. NIfTI label maps among them are not taken for images.
        views: long-axis views that must be there, of "lax_2ch", "lax_3ch", "lax_4ch"; others are left out. None takes
            whatever is found, [] the short axis alone.
        series_rules: what a DICOM series must be, keyword -> regular expression; others are left out.
        labels: whether NIfTI label maps among the files are read; each must lie on the grid of an image.
        ed_frame: the phase of end-diastole; it becomes phase 0.

    Returns:
        The exam; all views at the phases of the short axis, see :mod:`clinbundles.cine.find_views` for the names.

    Raises:
        CineExamError, SeriesError: an exam that cannot be used; says which file or series, what was found, what was
            expected.
        FileNotFoundError: no such file.
    """
    files = exam_files(image)
    label_files = [file for file in files if is_label_file(file)]
    found = read_planes([file for file in files if file not in set(label_files)], series_rules)
    for view in found:
        check_view(view)
    if labels:
        found = with_labels(found, [read_label(file, ed_frame) for file in label_files])
    stack = short_axis_planes(found)
    sax = _joined(found, stack)
    members = {v for v, _ in stack}
    others = [_slice(view, k) for v, view in enumerate(found) if v not in members for k in range(len(view.affines))]
    axes = exam_axes(sax.normals[0])
    planes = [(view.normals[0], view.centres[0]) for view in others]
    named, rough = long_axis_views(planes, axes, _rough_centres(sax, axes))
    lax = {name: replace(others[number], name=name) for name, number in named.items()}
    if views is not None:
        _check_wanted(lax, others, views)
        lax = {name: view for name, view in lax.items() if name in views}
    return _exam(sax, lax, rough, ed_frame)


def read_named_exam(
    files: Mapping[str, str | os.PathLike[str]],
    views: Sequence[str] | None = None,
    *,
    labels: bool = False,
    ed_frame: int = 0,
) -> CineExam:
    """Read an exam whose NIfTI files are named by view, as in a manifest.

    Args:
        files: "sax", "lax_2ch", "lax_3ch", "lax_4ch" and, with ``labels``, each with "_label" -> file.
        views, labels, ed_frame: as in :func:`read_cine_exam`.

    Raises:
        CineExamError: as :func:`read_cine_exam`; a long-axis plane that is parallel to the short axis or misses the LV.
    """
    if "sax" not in files:
        raise CineExamError(f"the case has no 'sax' (it has {', '.join(sorted(files)) or 'nothing'}): name its file")
    wanted = [name for name in LAX_VIEWS if name in files] if views is None else list(views)
    missing = [name for name in wanted if name not in files]
    if missing:
        raise CineExamError(
            f"the case has no {', '.join(missing)}: name the file, or leave the view out of 'views' ({wanted})"
        )
    read: dict[str, CineView] = {}
    for name in ("sax", *wanted):
        view = replace(read_nifti_cine(Path(files[name])), name=name)
        check_view(view)
        if labels and f"{name}_label" in files:
            view = with_label(view, read_label(Path(files[f"{name}_label"]), ed_frame))
        read[name] = view
    sax = _joined([read["sax"]], short_axis_planes([read["sax"]]))
    axes = exam_axes(sax.normals[0])
    for name in wanted:
        if read[name].image.shape[2] != 1:
            raise CineExamError(f"{read[name].where[0]}: {name} has {read[name].image.shape[2]} slices, expected one")
    planes = [(read[name].normals[0], read[name].centres[0]) for name in wanted]
    rough = likeliest_centre(planes, _rough_centres(sax, axes))
    for name in wanted:
        check_long_axis(read[name], axes, rough)
    return _exam(sax, {name: read[name] for name in wanted}, rough, ed_frame)


def _rough_centres(sax: CineView, axes: np.ndarray) -> list[RoughCentre]:
    return [
        RoughCentre(point, votes, right_ventricle_angle(sax, axes, point))
        for point, votes in rough_lv_centres(sax, axes)
    ]


def _exam(sax: CineView, lax: Mapping[str, CineView], rough_centre: np.ndarray, ed_frame: int) -> CineExam:
    phases = sax.image.shape[3]
    if not 0 <= ed_frame < phases:
        raise CineExamError(f"ed_frame is {ed_frame}, expected a phase from 0 to {phases - 1} of the short axis")
    fractions = cycle_fractions(sax.times_ms)
    matched = [at_phases(lax[name], fractions, f"the short axis ({sax.where[0]})") for name in LAX_VIEWS if name in lax]
    ordered = [_from_phase(view, ed_frame) for view in (sax, *matched)]
    axes = exam_axes(sax.normals[0])
    centre = lv_centre(ordered[1:], axes, rough_centre)
    return CineExam(ordered[0], tuple(ordered[1:]), frame_to_world(axes, centre), ordered[0].times_ms)


def _from_phase(view: CineView, first: int) -> CineView:
    """The cine beginning at another phase; times count from there."""
    if first == 0:
        return view
    step = float(np.median(np.diff(view.times_ms)))
    length = view.times_ms[-1] - view.times_ms[0] + step
    times = np.roll(view.times_ms, -first)
    times[len(times) - first :] += length
    label = None if view.label is None else np.roll(view.label, -first, axis=3)
    return replace(view, image=np.roll(view.image, -first, axis=3), label=label, times_ms=times - times[0])


def _slice(view: CineView, k: int) -> CineView:
    label = None if view.label is None else view.label[:, :, k : k + 1]
    return replace(
        view,
        image=view.image[:, :, k : k + 1],
        affines=view.affines[k : k + 1],
        where=view.where[k : k + 1],
        label=label,
    )


def _joined(views: Sequence[CineView], planes: Sequence[tuple[int, int]]) -> CineView:
    """The short-axis stack of slices that may come from several series, each brought to the phases of the first."""
    slices = [_slice(views[v], k) for v, k in planes]
    first = slices[0]
    fractions = cycle_fractions(first.times_ms)
    for other in slices[1:]:
        if other.image.shape[:2] != first.image.shape[:2] or not np.allclose(other.pixel_mm, first.pixel_mm, rtol=1e-3):
            raise CineExamError(
                f"{other.where[0]}: a short-axis slice of {_size(other)}, but {first.where[0]} has {_size(first)}: "
                "expected one size for the whole stack; leave out the series that does not belong to it"
            )
    slices = [at_phases(one, fractions, first.where[0]) for one in slices]
    label = None
    if all(one.label is not None for one in slices):
        label = np.concatenate([one.label for one in slices if one.label is not None], axis=2)
    times = np.stack([one.times_ms for one in slices])
    return CineView(
        "sax",
        np.concatenate([one.image for one in slices], axis=2),
        np.concatenate([one.affines for one in slices]),
        np.median(times, axis=0),
        tuple(one.where[0] for one in slices),
        label,
    )


def _size(view: CineView) -> str:
    i, j = view.image.shape[:2]
    return f"{i} x {j} pixels of {view.pixel_mm[0]:.4g} x {view.pixel_mm[1]:.4g} mm"


def _check_wanted(found: Mapping[str, CineView], others: Sequence[CineView], views: Sequence[str]) -> None:
    unknown = [name for name in views if name not in LAX_VIEWS]
    if unknown:
        raise CineExamError(f"views names {', '.join(unknown)}; expected of {', '.join(LAX_VIEWS)}, or [] for none")
    missing = [name for name in views if name not in found]
    if missing:
        planes = f"{len(others)} planes beside the short axis" if others else "no plane beside the short axis"
        seen = ", ".join(found) or "none"
        raise CineExamError(
            f"the exam has no {', '.join(missing)}: found {planes}, of which long-axis views of the left ventricle "
            f"are: {seen} (told by position, not by description). Add the series, or leave the view out of 'views'"
        )
