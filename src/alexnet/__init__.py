"""AlexNet (Krizhevsky, Sutskever, Hinton, 2012) and the means to rerun the claims of its paper."""
