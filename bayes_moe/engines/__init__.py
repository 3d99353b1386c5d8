"""What runs the No-U-Turn sampler: one small class each way of evaluating the log density."""
