"""Training: the LightningModule, its optimiser and schedules, callbacks and loggers."""
