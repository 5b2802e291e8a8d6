"""Networks: AlexNet, its variants and relatives, and how they start."""
