"""A mesh of the left ventricle that moves with the heart of a multi-view cine MRI (MeshMotion, DeepMesh)."""
