"""Simulated microscopy of stained white blood cells whose class is the shape of the nucleus."""

from clinbundles.phantoms.stained_leukocytes.leukocyte_class import CLASSES, LeukocyteClass
from clinbundles.phantoms.stained_leukocytes.simulated_smear import simulate_leukocytes

__all__ = ["CLASSES", "LeukocyteClass", "simulate_leukocytes"]
