"""Cine exams: reading, views told by geometry, phases, the exam frame, and the tensors of the motion bundles."""

from clinbundles.cine.cine_exam import LAX_VIEWS, CineExam, CineExamError, CineView
from clinbundles.cine.load_cine_exam import LoadImageCineExamd
from clinbundles.cine.read_cine_exam import read_cine_exam, read_named_exam

__all__ = [
    "LAX_VIEWS",
    "CineExam",
    "CineExamError",
    "CineView",
    "LoadImageCineExamd",
    "read_cine_exam",
    "read_named_exam",
]
