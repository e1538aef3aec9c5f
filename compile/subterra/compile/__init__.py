"""Turn a procedure into an adapter: dialogues, recipes, training, merging and scoring."""

import os

# Read when torch loads OpenMP: threads that spin at a barrier collapse on a core that others use.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
