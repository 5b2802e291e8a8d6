"""What a trained network does on a split: its views of an image, its softmax, its errors."""
