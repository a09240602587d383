"""The sweep: what it searches, its trials under Ray Tune, what they have come to, its report."""
