"""Entry points: one thin script a job, and the `stn-icnn` command."""
