"""The errors of work on the cluster."""


class PhaseFailedError(RuntimeError):
    """A phase failed: its workers died too often, or its loss is not finite."""


class LostWorkersError(RuntimeError):
    """A run had no room for its workers for too long."""


class UnreachableError(RuntimeError):
    """Nodes whose workers should train together do not reach one another."""
