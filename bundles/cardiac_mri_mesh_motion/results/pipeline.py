"""The deterministic steps around the network, the same for inference, evaluation and hosts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.transforms import Compose

from cardiac_mri_mesh_motion.results.save_mesh_motion import SaveImageMeshMotiond
from cardiac_mri_mesh_motion.ventricle.measure_mesh import MeasureMeshd
from cardiac_mri_mesh_motion.ventricle.move_mesh import MoveMeshd
from clinbundles.cine import LoadImageCineExamd
from clinbundles.cine.cine_exam import LAX_VIEWS
from clinbundles.motion.kinematic_refinement import Refinement


def preprocessing(
    views: Sequence[str] = LAX_VIEWS,
    allow_missing_views: bool | Sequence[str] = True,
    labels: bool = False,
    native: bool = True,
) -> Compose:
    """Preprocessing of a case: ``image`` (T, I, J, K), ``lax`` (T, P, 64, 64), ``lax_pose`` (P, 3, 4) and more.

    Args:
        views: long-axis views in the order of the network.
        allow_missing_views: whether an exam may lack some of them, or which.
        labels: whether label maps are read.
        native: whether the acquired slices are kept, for figures.
    """
    return Compose(
        [
            LoadImageCineExamd(
                keys="image", views=views, allow_missing_views=allow_missing_views, labels=labels, native=native
            )
        ]
    )


def postprocessing(
    output_dir: str | Path | None = None,
    ed_mesh: str = "network",
    mesh_file: str | None = None,
    space: str | None = None,
    track: Sequence[str] = (),
    refine_steps: int = 0,
    refine_prior: float = 0.05,
    output_space: str = "LPS",
    figures: bool = True,
    film: bool = True,
    template: str | None = None,
    version: str = "",
) -> Compose:
    """Postprocessing of fields ``pred`` (T, 6, I, J, K): mesh, motion, measures, files.

    Args:
        output_dir: folder of the results; None writes none.
        ed_mesh, mesh_file, space, track, template: see ``MoveMeshd``.
        refine_steps: steps of test-time refinement by the exam's own pictures; 0: none.
        refine_prior: how strongly it stays near the network's motion.
        output_space: coordinates of the written meshes, "LPS" or "RAS".
        figures, film: whether to draw them.
        version: of the bundle.
    """
    refinement = Refinement(steps=refine_steps, prior=refine_prior) if refine_steps else None
    steps: list[Any] = [
        MoveMeshd("pred", ed_mesh, mesh_file, space, track, refinement, template),
        MeasureMeshd("pred"),
    ]
    if output_dir is not None:
        steps.append(SaveImageMeshMotiond(output_dir, output_space, figures, film, version))
    return Compose(steps)
