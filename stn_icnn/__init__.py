"""STN-iCNN: end-to-end face parsing with interlinked networks and a spatial transformer.

The model library. It knows nothing of Ray, MLflow, S3, ranks or argument parsing.
"""
