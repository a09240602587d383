"""The hybrid job: a model fine-tuned on another data set, and training from scratch beside it."""
