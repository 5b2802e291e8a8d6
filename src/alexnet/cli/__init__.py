"""The commands, on top of Hydra."""
