"""Where the model meets Ray, MLflow and torch.distributed."""
