"""The simulated heart of all cardiac bundles: exact anatomy, motion, labels, strain, volumes; cine images of it."""

from clinbundles.phantoms.heart.heart import Heart
from clinbundles.phantoms.heart.heart_mesh import HeartMesh, heart_mesh
from clinbundles.phantoms.heart.population import draw_heart, mean_heart
from clinbundles.phantoms.heart.simulated_exam import exam_heart, simulate_heart_exam
from clinbundles.phantoms.heart.tissue import Tissue

__all__ = [
    "Heart",
    "HeartMesh",
    "Tissue",
    "draw_heart",
    "exam_heart",
    "heart_mesh",
    "mean_heart",
    "simulate_heart_exam",
]
