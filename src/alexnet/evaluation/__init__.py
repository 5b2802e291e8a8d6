"""What a trained network does: its crops of an image, its softmax, its errors, its predictions."""
