"""ISMRMRD raw data (HDF5), as OCMR publishes them: Cartesian 2D cines, one slice at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np
import numpy.typing as npt

from clinbundles.kspace.axis_order import slice_number
from clinbundles.kspace.ismrmrd_header import Encoding, read_header
from clinbundles.kspace.kspace_case import Array, KspaceCase, KspaceChoice, KspaceError
from clinbundles.kspace.readout_oversampling import crop_readout, crop_readout_mask

_NO_IMAGE = (  # readouts that are no lines of the image
    ismrmrd.ACQ_IS_NOISE_MEASUREMENT,
    ismrmrd.ACQ_IS_PARALLEL_CALIBRATION,
    ismrmrd.ACQ_IS_NAVIGATION_DATA,
    ismrmrd.ACQ_IS_PHASECORR_DATA,
    ismrmrd.ACQ_IS_HPFEEDBACK_DATA,
    ismrmrd.ACQ_IS_DUMMYSCAN_DATA,
    ismrmrd.ACQ_IS_RTFEEDBACK_DATA,
    ismrmrd.ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA,
)
_ROWS_AT_ONCE = 512
_SPOILT_BY_PILOT_TONE = [0, 1, 2, -1]  # samples that OCMR's own reader discards


def read_ismrmrd(path: Path, case: str, choice: KspaceChoice) -> KspaceCase:
    """One slice: readouts sorted by their counters, averages divided by their number, oversampling removed.

    Frames are the phases of the cardiac cycle (cyclic), or the repetitions where there is one phase. Noise scans become
    ``noise``, for whitening. A readout of which a part is missing (asymmetric echo) keeps its zeros; its mask is
    (T, X, Y). With a pilot tone the ends of the readouts are set to zero. Phase encoding is filled with zeros up to the
    pixel size of the reconstruction; its oversampling stays.

    Raises:
        KspaceError: no ISMRMRD file, not Cartesian, several slices, sets, contrasts or repetitions of a cine and none
            chosen, readouts that do not fit the header.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise KspaceError(f"case '{case}': {path.suffix} is no HDF5 file ({type(error).__name__})") from None
    with file:
        group = _group(file, case)
        encoding = read_header(bytes(np.asarray(group["xml"]).ravel()[0]), case)
        heads = group["data"].fields("head")[:]
        flags = heads["flags"]
        noise_scans = np.flatnonzero(_flagged(flags, ismrmrd.ACQ_IS_NOISE_MEASUREMENT))
        rows = np.flatnonzero(~_flagged(flags, *_NO_IMAGE) & (heads["encoding_space_ref"] == 0))
        rows = rows[_chosen(heads["idx"][rows], case, choice)]
        coils = _coils(heads[rows], case)
        frames, numbers, cyclic = _frames(heads["idx"][rows])
        kspace, counts = _fill(group["data"], heads, rows, numbers, len(frames), coils, encoding, case)
        noise = _noise(group["data"], heads, noise_scans, coils, case) if choice.whiten else None
    timing = heads[rows]
    partial = bool((counts.max(axis=1) != counts.min(axis=1)).any())
    oversampling = encoding.readout_oversampling
    length = encoding.matrix[0]
    if choice.crop_oversampling and oversampling > 1.01:
        length = max(1, round(encoding.matrix[0] / oversampling))
        kspace, counts, oversampling = _cropped(kspace, counts, length, partial)
    if choice.pad_phase_encoding:
        kspace, counts = _padded(kspace, counts, encoding)
    lines = kspace.shape[-1]
    spacing = (encoding.fov_mm[0] / encoding.matrix[0], encoding.fov_mm[1] / lines)
    if length != encoding.matrix[0]:
        spacing = (encoding.recon_fov_mm[0] / length, spacing[1])
    dwell = float(np.median(timing["sample_time_us"]))
    dwell_of_noise = float(heads["sample_time_us"][noise_scans[0]]) if len(noise_scans) else dwell
    known = dwell > 0 and dwell_of_noise > 0
    return KspaceCase(
        kspace,
        mask=(counts > 0).astype(np.float32),
        spacing_mm=spacing,
        thickness_mm=encoding.fov_mm[2] or None,
        frame_ms=_frame_ms(timing, numbers, len(frames), cyclic, encoding.tick_ms) or encoding.stated_frame_ms,
        cyclic=cyclic,
        affine=_affine(timing[0], (kspace.shape[2], lines), spacing, encoding.fov_mm[2]),
        noise=noise,
        acquisition={
            "format": "ISMRMRD",
            "readout_oversampling": oversampling,
            "partial_readout": partial,
            "averages": float(counts[counts > 0].mean()),
            "real_time": _real_time(timing, numbers, len(frames)),
            "noise_bandwidth_ratio": (dwell_of_noise / dwell if known else 1.0) / encoding.noise_bandwidth,
        },
    )


def ismrmrd_slices(path: Path, case: str) -> list[int]:
    """The counters of the slices of a file, without reading its samples."""
    with h5py.File(path, "r") as file:
        heads = _group(file, case)["data"].fields("head")[:]
    return sorted({int(number) for number in heads["idx"]["slice"][~_flagged(heads["flags"], *_NO_IMAGE)]})


def _group(file: Any, case: str) -> Any:
    for name in ("dataset", *file):
        group = file.get(name)
        if isinstance(group, h5py.Group) and {"xml", "data"} <= set(group):
            return group
    raise KspaceError(
        f"case '{case}': the file is HDF5, but holds no ISMRMRD data (a group with 'xml' and 'data'): for MATLAB files "
        "the ending is .mat"
    )


def _flagged(flags: Array, *numbers: int) -> npt.NDArray[np.bool_]:
    bits = np.uint64(sum(1 << (number - 1) for number in numbers))
    return (flags.astype(np.uint64) & bits) != 0


def _chosen(counters: Any, case: str, choice: KspaceChoice) -> npt.NDArray[np.bool_]:
    """Which readouts belong to the slice, set and repetition that were chosen."""
    if not len(counters):
        raise KspaceError(f"case '{case}': the file holds no readout of an image, only noise or calibration")
    slices = sorted({int(number) for number in counters["slice"]})
    keep = counters["slice"] == slices[slice_number(len(slices), choice.slice, case=case)]
    names = ["set", "contrast"] + ["repetition"] * (len(np.unique(counters["phase"])) > 1)
    for name in names:
        found = sorted({int(number) for number in counters[name][keep]})
        wanted = getattr(choice, name, None)
        if wanted is None and len(found) > 1:
            way = f"set {name} to one of them in the case" if hasattr(choice, name) else "export one of them"
            raise KspaceError(
                f"case '{case}': the file holds the {name}s {', '.join(map(str, found))} of one slice, expected "
                f"one: {way}"
            )
        if wanted is not None and wanted not in found:
            raise KspaceError(f"case '{case}': {name} is {wanted}, but the file holds {', '.join(map(str, found))}")
        keep = keep & (counters[name] == (found[0] if wanted is None else wanted))
    if len(np.unique(counters["kspace_encode_step_2"][keep])) > 1:
        raise KspaceError(f"case '{case}': the readouts have several partitions (3D), expected 2D cines")
    return keep


def _coils(heads: Any, case: str) -> int:
    numbers = sorted({int(number) for number in heads["active_channels"]})
    if len(numbers) > 1:
        raise KspaceError(f"case '{case}': the readouts have {numbers} coils, expected the same number in all")
    return numbers[0]


def _frames(counters: Any) -> tuple[Array, Array, bool]:
    """The counter of each frame, the frame of each readout, and whether frames are phases of a cycle."""
    cyclic = len(np.unique(counters["phase"])) > 1 or len(np.unique(counters["repetition"])) == 1
    frames, numbers = np.unique(counters["phase" if cyclic else "repetition"], return_inverse=True)
    return frames, numbers, cyclic


def _fill(
    data: Any, heads: Any, rows: Array, numbers: Array, frames: int, coils: int, encoding: Encoding, case: str
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.float32]]:
    """K-space (T, N, X, Y) as encoded, averages divided by their number, and that number (T, X, Y)."""
    length, lines = encoding.matrix
    kspace = np.zeros((frames, coils, length, lines), dtype=np.complex64)
    counts = np.zeros((frames, length, lines), dtype=np.float32)
    for (row, samples), frame in zip(_readouts(data, heads, rows, case), numbers, strict=True):
        head = heads[row]
        line = int(head["idx"]["kspace_encode_step_1"]) - encoding.centre_line + lines // 2
        pre, post = int(head["discard_pre"]), int(head["discard_post"])
        samples = samples[:, pre : samples.shape[1] - post]
        if encoding.pilot_tone:
            samples = samples.copy()
            samples[:, _SPOILT_BY_PILOT_TONE] = 0
        centre = int(head["center_sample"]) - pre
        if _flagged(head["flags"], ismrmrd.ACQ_IS_REVERSE):
            samples, centre = samples[:, ::-1], samples.shape[1] - 1 - centre
        if samples.shape[1] == length:  # a whole readout: some writers leave its centre at 0
            centre = length // 2
        start = length // 2 - centre
        if not 0 <= line < lines or start < 0 or start + samples.shape[1] > length:
            raise KspaceError(
                f"case '{case}': readout {row} has {samples.shape[1]} samples with the centre at {centre} and lies at "
                f"line {line}, which does not fit the encoded matrix {length} x {lines} of the header (centre line "
                f"{encoding.centre_line})"
            )
        kspace[frame, :, start : start + samples.shape[1], line] += samples
        counts[frame, start : start + samples.shape[1], line] += 1
    kspace /= np.maximum(counts, 1)[:, None]
    return kspace, counts


def _readouts(data: Any, heads: Any, rows: Array, case: str) -> Iterator[tuple[int, Array]]:
    """The samples (N, S) of these rows, a few hundred rows in memory at a time."""
    for first in range(0, len(heads), _ROWS_AT_ONCE):
        inside = rows[(rows >= first) & (rows < first + _ROWS_AT_ONCE)]
        if not len(inside):
            continue
        block = data.fields("data")[first : first + _ROWS_AT_ONCE]
        for row in inside:
            head = heads[row]
            shape = (int(head["active_channels"]), int(head["number_of_samples"]))
            values = np.asarray(block[row - first], dtype=np.float32)
            if values.size != 2 * shape[0] * shape[1]:
                raise KspaceError(
                    f"case '{case}': readout {row} holds {values.size} numbers, but its header says {shape[0]} coils "
                    f"and {shape[1]} samples ({2 * shape[0] * shape[1]} numbers): the file is damaged"
                )
            yield int(row), values.view(np.complex64).reshape(shape)


def _noise(data: Any, heads: Any, rows: Array, coils: int, case: str) -> Array | None:
    scans = [samples for _, samples in _readouts(data, heads, rows, case)]
    if not scans:
        return None
    if any(samples.shape[0] != coils for samples in scans):
        raise KspaceError(
            f"case '{case}': the noise scans have {scans[0].shape[0]} coils, the image has {coils}: set whiten to False"
        )
    return np.concatenate(scans, axis=1)


def _cropped(
    kspace: Array, counts: Array, length: int, partial: bool
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.float32], float]:
    whole = np.empty((*kspace.shape[:2], length, kspace.shape[3]), dtype=np.complex64)
    for number, frame in enumerate(kspace):
        whole[number] = crop_readout(frame, length)
    sampled = crop_readout_mask(counts, length)
    if partial:
        whole *= sampled[:, None]
    return whole, sampled * counts.max(axis=1, keepdims=True), 1.0


def _padded(kspace: Array, counts: Array, encoding: Encoding) -> tuple[Array, Array]:
    lines = kspace.shape[-1]
    wanted = round(encoding.fov_mm[1] / encoding.recon_fov_mm[1] * encoding.recon_matrix[1])
    if wanted <= lines:
        return kspace, counts
    before = wanted // 2 - lines // 2
    behind = wanted - lines - before
    return (
        np.pad(kspace, ((0, 0), (0, 0), (0, 0), (before, behind))),
        np.pad(counts, ((0, 0), (0, 0), (before, behind))),
    )


def _affine(head: Any, shape: tuple[int, int], spacing: tuple[float, float], thickness: float) -> Array | None:
    """Affine in RAS mm from position and directions (LPS) of a readout; None where the scanner wrote none."""
    axes = [np.asarray(head[name], dtype=np.float64) for name in ("read_dir", "phase_dir", "slice_dir")]
    if not all(np.isfinite(axis).all() and abs(np.linalg.norm(axis) - 1) < 0.01 for axis in axes):
        return None
    affine = np.eye(4)
    for at, (axis, step) in enumerate(zip(axes, (*spacing, thickness or 1.0), strict=True)):
        affine[:3, at] = axis * step
    affine[:3, 3] = np.asarray(head["position"], dtype=np.float64)
    affine[:3, 3] -= affine[:3, 0] * (shape[0] // 2) + affine[:3, 1] * (shape[1] // 2)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _frame_ms(heads: Any, numbers: Array, frames: int, cyclic: bool, tick_ms: float | None) -> float | None:
    """Median step between the frames' mean time stamps: since the R wave for phases, since midnight for others."""
    if tick_ms is None or frames < 2:
        return None
    stamps = heads["physiology_time_stamp"][:, 0] if cyclic else heads["acquisition_time_stamp"]
    times = np.asarray([stamps[numbers == frame].mean(dtype=np.float64) for frame in range(frames)])
    step = float(np.median(np.diff(times)) * tick_ms)
    return step if step > 0 else None


def _real_time(heads: Any, numbers: Array, frames: int) -> bool:
    """Whether each frame was acquired as a whole before the next one began."""
    stamps = heads["acquisition_time_stamp"].astype(np.int64)
    if frames < 2 or stamps.max() == stamps.min():
        return False
    first = [stamps[numbers == frame].min() for frame in range(frames)]
    last = [stamps[numbers == frame].max() for frame in range(frames)]
    return all(last[frame] <= first[frame + 1] for frame in range(frames - 1))
