"""The arms of both motion bundles: overrides of their train.yaml."""

from __future__ import annotations

from typing import Any

from motion_claims import Arms

LABELS_ALONE = {"truth": 0.0}  # labels and images teach, as in the papers; exact motion only scores
# neither pictures nor labels of the long-axis views: lost to the network, and silent in the loss
SHORT_AXIS = {**LABELS_ALONE, "drop_view": 1.0, "train#preprocessing#transforms#3#supervise": False}


def case_score(name: str) -> dict[str, Any]:
    """A further metric of evaluate.yaml."""
    return {
        f"validate#additional_metrics#{name}": {
            "_target_": "IgniteMetricHandler",
            "metric_fn": {"_target_": "clinbundles.metrics.case_score.CaseScore"},
            "output_transform": {"_target_": "clinbundles.metrics.case_score.ScoreOf", "name": name},
        }
    }


MESH = Arms(
    "cardiac_mri_mesh_motion",
    {
        "exact motion": {},
        "exact sections": LABELS_ALONE,
        "short axis": SHORT_AXIS,
        "vertex projection": {
            **LABELS_ALONE,
            "loss#_target_": "vertex_projection_loss.VertexProjectionLoss",
            "coverage": 0.05,  # of 0.005, 0.05 and 0.3 the best on 12 validation hearts after 5 epochs
            "template_coverage": 0.05,
        },
        "no volume": {**LABELS_ALONE, "volume": 0.0, "incompressibility": 0.0},
    },
    {"validate#postprocessing#transforms#0#_target_": "mesh_bias_and_drift.ScoreMeshMotionClaimsd"}
    | case_score("z_bias")
    | case_score("abs_z_bias")
    | case_score("exact_mesh_drift"),
)
MULTIVIEW = Arms(
    "cardiac_mri_multiview_motion",
    {
        "exact motion": {},
        "multi-view": LABELS_ALONE,
        "short axis": {**SHORT_AXIS, "lax_image": 0.0},
        "no shape": {**LABELS_ALONE, "shape": 0.0},
        "no warped shape": {**LABELS_ALONE, "loss#warped_shape": False},
        "stacked": {**LABELS_ALONE, "network_def#fusion": "stacked"},
    },
)
