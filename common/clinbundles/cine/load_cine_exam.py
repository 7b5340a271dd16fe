"""Loading of a cine exam as the tensors of the motion bundles."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from clinbundles.cine.cine_exam import LAX_VIEWS, CineExam, CineExamError, CineView
from clinbundles.cine.exam_crops import (
    PLANE_PIXEL_MM,
    PLANE_SIZE,
    crop_pose,
    crop_slices,
    intensity_range,
    refuse_outside,
    rescale,
    slice_poses,
    stack_on_grid,
)
from clinbundles.cine.read_cine_exam import read_cine_exam, read_named_exam
from clinbundles.motion.motion_grid import GRID_SIZE, GRID_SPACING_MM, grid_affine

MOST_SLICES = 16

logger = logging.getLogger(__name__)


class LoadImageCineExamd(MapTransform):
    """Load a cine exam: short-axis stack on the motion grid, long-axis planes with their poses, native planes.

    The case names a folder or a list of files (NIfTI named anything, or DICOM) under ``keys``; a case with the keys
    ``sax``, ``lax_2ch`` ... (and ``sax_label`` ...) is read by those names instead. Phase 0 is end-diastole (a plain
    value ``ed_frame`` of the case says which phase that is in the files). Coordinates are in the exam frame
    (:mod:`clinbundles.cine.exam_frame`), mm. Written to the sample, with T phases and P = ``len(views)``:

    - ``image`` (T, X, Y, Z) MetaTensor in [0, 1] on the motion grid, its affine in RAS mm;
    - ``lax`` (T, P, 64, 64) in [0, 1], 2 mm pixels, ``lax_pose`` (P, 3, 4): (x, y, z, 1) to (i, j, n), n in mm; views
      that the exam lacks are zero in both;
    - ``frame_to_world`` (4, 4) float64, ``times_ms`` (T,) (NaN where unknown);
    - ``planes`` (T, N, 64, 64), ``planes_pose`` (N, 3, 4), N = P + ``most_slices``: crops of every acquired slice, the
      long-axis views first, then the short axis from base to apex, zeros behind; with ``labels`` also
      ``planes_label`` (T, N, 64, 64) uint8, 255 where there is no label map or no pixel;
    - ``native``: view name -> ``image`` (K, T, I, J) in [0, 1] as acquired, ``pose`` (K, 3, 4), ``pixel_mm`` (2,), and
      ``label`` (K, T, I, J) uint8 where there is one.

    Args:
        keys: key of the folder or files; the one key becomes the image.
        views: long-axis views in the order of the network; with ``allow_missing_views`` an exam may lack some of them.
        allow_missing_views: True, False, or the names of those that may be missing.
        labels: whether label maps are read.
        native: whether the native planes go into the sample; training does without.
        planes: whether the crops of every slice go into the sample.
        size, spacing_mm: of the motion grid; 64 x 64 x 16 voxels of 2 x 2 x 8 mm.
        most_slices: room for short-axis slices in ``planes``.
        series_rules: what a DICOM series must be, keyword -> regular expression; others are left out.

    Raises:
        CineExamError, SeriesError: an exam that cannot be used; names the file or series.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        views: Sequence[str] = LAX_VIEWS,
        allow_missing_views: bool | Sequence[str] = True,
        labels: bool = False,
        native: bool = True,
        planes: bool = True,
        size: Sequence[int] = GRID_SIZE,
        spacing_mm: Sequence[float] = GRID_SPACING_MM,
        most_slices: int = MOST_SLICES,
        series_rules: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys names {len(self.keys)} keys, expected one: an exam has one image")
        unknown = [name for name in views if name not in LAX_VIEWS]
        if unknown:
            raise ValueError(f"views names {', '.join(unknown)}; expected of {', '.join(LAX_VIEWS)}")
        if size[0] % 16 or size[1] % 16 or size[2] % 8:
            raise ValueError(
                f"size is {list(size)}: expected multiples of 16 in the plane and of 8 in depth, such as "
                f"{[-(-size[0] // 16) * 16, -(-size[1] // 16) * 16, -(-size[2] // 8) * 8]}"
            )
        self.views = tuple(views)
        if isinstance(allow_missing_views, bool):
            self.optional = self.views if allow_missing_views else ()
        else:
            self.optional = tuple(allow_missing_views)
        self.labels = labels
        self.native = native
        self.planes = planes
        self.size = tuple(size)
        self.spacing_mm = tuple(spacing_mm)
        self.most_slices = most_slices
        self.series_rules = dict(series_rules or {})

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read the exam and put its tensors into a copy of the sample; one that holds an image passes unchanged."""
        sample = dict(data)
        key = self.keys[0]
        if isinstance(sample.get(key), Tensor):
            return sample
        exam = self._read(sample, key)
        if self.views and not exam.lax:
            logger.warning(
                "%s: the exam has no long-axis view of the left ventricle, so that its shortening hardly shows: expect "
                "an ejection fraction and strains that are much too small, or give the views",
                exam.sax.where[0],
            )
        return {**sample, **self.tensors(exam, image_key=key)}

    def _read(self, sample: Mapping[Hashable, Any], key: Hashable) -> CineExam:
        ed_frame = _phase_number(sample.get("ed_frame", 0))
        if "sax" in sample:
            names = ("sax", *self.views)
            files = {str(k): sample[k] for n in names for k in (n, f"{n}_label") if sample.get(k) is not None}
            found = [name for name in self.views if name in files or name not in self.optional]
            return read_named_exam(files, found, labels=self.labels, ed_frame=ed_frame)
        if key not in sample:
            raise CineExamError(f"the case has neither '{key}' nor 'sax' (it has {', '.join(map(str, sample))})")
        exam = read_cine_exam(
            sample[key],
            None if self.optional else self.views,
            series_rules=self.series_rules,
            labels=self.labels,
            ed_frame=ed_frame,
        )
        missing = [name for name in self.views if name not in self.optional and exam.view(name) is None]
        if missing:
            found_views = ", ".join(view.name for view in exam.lax) or "no long-axis view of the left ventricle"
            raise CineExamError(
                f"the exam has no {', '.join(missing)} (found: {found_views}; told by position, not by description): "
                "add the series, or let the view be missing"
            )
        return exam

    def tensors(self, exam: CineExam, image_key: Hashable = "image") -> dict[Hashable, Any]:
        """The tensors of an exam that has been read."""
        frame = exam.frame_to_world
        images = {view.name: _frames(view.image) for view in exam.views}
        poses = {view.name: slice_poses(view, frame) for view in exam.views}
        # (K, T, 64, 64) around the heart of every view, and its values' range
        crops = {view.name: self._crop(view, images[view.name], poses[view.name]) for view in exam.views}
        limits = {name: intensity_range(crop) for name, (crop, _) in crops.items()}
        grid, outside = stack_on_grid(rescale(images["sax"], limits["sax"]), poses["sax"], self.size, self.spacing_mm)
        refuse_outside(outside, exam.sax.where[0], "motion grid")
        phases = grid.shape[0]
        lax = torch.zeros(phases, len(self.views), *PLANE_SIZE)
        lax_pose = torch.zeros(len(self.views), 3, 4)
        for number, name in enumerate(self.views):
            if name in crops:
                lax[:, number] = rescale(crops[name][0][0], limits[name])
                lax_pose[number] = torch.from_numpy(crops[name][1][0]).float()
        affine = frame @ grid_affine(self.size, self.spacing_mm).numpy()
        found: dict[Hashable, Any] = {
            image_key: MetaTensor(grid, affine=torch.from_numpy(affine), meta=_meta(exam, affine, self.size)),
            "lax": lax,
            "lax_pose": lax_pose,
            "frame_to_world": torch.from_numpy(frame),
            "times_ms": torch.from_numpy(np.asarray(exam.times_ms, dtype=np.float32)),
        }
        if self.planes:
            found |= self._all_planes(exam, crops, limits, poses, lax, lax_pose)
        if self.native:
            found["native"] = {
                view.name: _native(view, rescale(images[view.name], limits[view.name]), poses[view.name])
                for view in exam.views
                if view.name == "sax" or view.name in self.views
            }
        return found

    def _crop(self, view: CineView, images: Tensor, poses: np.ndarray) -> tuple[Tensor, np.ndarray]:
        crops = np.stack([crop_pose(pose, view.pixel_mm, PLANE_SIZE, PLANE_PIXEL_MM) for pose in poses])
        cropped, outside = crop_slices(images, poses, crops, PLANE_SIZE)
        refuse_outside(float(outside.max()), view.where[int(outside.argmax())], "crop of 128 mm")
        return cropped, crops

    def _all_planes(
        self,
        exam: CineExam,
        crops: Mapping[str, tuple[Tensor, np.ndarray]],
        limits: Mapping[str, tuple[float, float]],
        poses: Mapping[str, np.ndarray],
        lax: Tensor,
        lax_pose: Tensor,
    ) -> dict[Hashable, Any]:
        slices = len(poses["sax"])
        if slices > self.most_slices:
            raise CineExamError(
                f"{exam.sax.where[0]}: the short-axis stack has {slices} slices, room is for {self.most_slices}: raise "
                "most_slices"
            )
        first = len(self.views)
        behind = self.most_slices - slices
        sax = rescale(crops["sax"][0], limits["sax"]).transpose(0, 1)
        planes = torch.cat([lax, sax, lax.new_zeros(lax.shape[0], behind, *PLANE_SIZE)], dim=1)
        pose = torch.zeros(first + self.most_slices, 3, 4)
        pose[:first] = lax_pose
        pose[first : first + slices] = torch.from_numpy(crops["sax"][1]).float()
        found: dict[Hashable, Any] = {"planes": planes, "planes_pose": pose}
        if self.labels:
            label = torch.full(planes.shape, 255, dtype=torch.uint8)
            for view in exam.views:
                if view.label is None or (view.name != "sax" and view.name not in self.views):
                    continue
                # 0 is outside of the label map: shifted by one
                shifted = _frames(view.label).float() + 1
                cut, _ = crop_slices(shifted, poses[view.name], crops[view.name][1], PLANE_SIZE, mode="nearest")
                at = first if view.name == "sax" else self.views.index(view.name)
                values = (cut.round().to(torch.int16) - 1).transpose(0, 1)
                label[:, at : at + values.shape[1]] = torch.where(values < 0, 255, values).to(torch.uint8)
            found["planes_label"] = label
        return found


def _phase_number(value: Any) -> int:
    try:
        if float(value) == int(float(value)):
            return int(float(value))
    except (TypeError, ValueError, OverflowError):
        pass
    raise CineExamError(f"ed_frame is {value!r}, expected the number of the phase of end-diastole, counted from 0")


def _frames(image: np.ndarray) -> Tensor:
    """(I, J, K, T) to (K, T, I, J)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 3, 0, 1)))


def _meta(exam: CineExam, affine: np.ndarray, size: Sequence[int]) -> dict[str, Any]:
    return {
        "original_affine": affine.copy(),
        "original_channel_dim": 0,
        "space": "RAS",
        "spatial_shape": np.asarray(size),
        "views_found": ", ".join(view.name for view in exam.views),
    }


def _native(view: CineView, image: Tensor, poses: np.ndarray) -> dict[str, Tensor]:
    found = {
        "image": image,
        "pose": torch.from_numpy(poses).float(),
        "pixel_mm": torch.tensor(view.pixel_mm, dtype=torch.float32),
    }
    if view.label is not None:
        found["label"] = _frames(view.label)
    return found
