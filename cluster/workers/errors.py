"""The errors of work on the cluster."""


class PhaseFailedError(RuntimeError):
    """A phase failed: its workers died too often, or its loss is not finite."""
