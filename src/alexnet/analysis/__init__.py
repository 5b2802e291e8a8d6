"""What a trained network has learned: kernels, neighbours, and what its layers do in the first steps."""
