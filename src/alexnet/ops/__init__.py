"""What torch does slowly, in compiled code."""
