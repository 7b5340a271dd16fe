"""Cross-sections of triangle meshes as images, differentiable; losses, measures and files of meshes."""
