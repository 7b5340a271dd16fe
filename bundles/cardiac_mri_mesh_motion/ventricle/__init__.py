"""The mesh of the left ventricle: the template, the mesh at end-diastole, how it moves, what it measures."""
