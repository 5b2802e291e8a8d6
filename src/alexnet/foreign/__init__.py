"""Weights that others trained, Caffe's and torchvision's, in this project's own form."""
