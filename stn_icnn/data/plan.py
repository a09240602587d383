"""Plans of batches: the samples of each batch of an epoch, or of a split that is read once.

Seed and epoch alone decide, so a number of steps says where an epoch stands: no reader has a state
to be kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Request:
    """One look at a sample: in training its augmentation depends on all three."""

    index: int
    """Place of the sample in its split."""
    epoch: int = 0
    copy: int = 0
    """Number of the look among the epoch's `augment.copies` of the sample, from 0."""


Plan = Sequence[list[Request]]
"""Batches of samples, one after another."""


def plan_epoch(
    num_samples: int, copies: int, global_batch: int, seed: int, epoch: int
) -> list[list[Request]]:
    """Returns the global batches of an epoch: every copy of every sample once, in a seeded order.

    There are as many batches as `global_batch` needs, and their sizes are as even as can be: the
    last is as good as any, and has at least half of `global_batch` where there are more samples
    than one batch holds.
    """
    order = np.random.default_rng([seed, epoch]).permutation(num_samples * copies)
    return [
        [Request(int(i) % num_samples, epoch, int(i) // num_samples) for i in part]
        for part in np.array_split(order, num_batches(len(order), global_batch))
    ]


def num_batches(num_looks: int, global_batch: int) -> int:
    """Returns the number of global batches that an epoch's looks at samples make."""
    return -(-num_looks // global_batch)


def batch_sizes(num_looks: int, global_batch: int) -> list[int]:
    """Returns the sizes of an epoch's global batches, which add up to all its looks at samples."""
    number = num_batches(num_looks, global_batch)
    size, num_larger = divmod(num_looks, max(number, 1))
    return [size + (i < num_larger) for i in range(number)]


def rank_share(plan: Plan, rank: int, world_size: int) -> Plan:
    """Returns a rank's share of each global batch, which must have a sample for every rank."""
    return [batch[rank::world_size] for batch in plan]


def plan_evaluation(
    num_samples: int, rank: int, world_size: int, batch: int
) -> list[list[Request]]:
    """Returns a rank's batches of a split: over all ranks, every sample exactly once.

    Whole batches are dealt out, so that a sample's neighbours, and with them the last bits of its
    result, do not depend on how many ranks there are.
    """
    starts = range(rank * batch, num_samples, world_size * batch)
    return [[Request(i) for i in range(at, min(at + batch, num_samples))] for at in starts]
