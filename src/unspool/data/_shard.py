"""Divide batches among processes that train together."""

import heapq

import numpy as np


def full_steps(batches: list[np.ndarray], num_replicas: int) -> list[np.ndarray]:
    """Halve the largest batches until every replica can have the same number.

    Parameters
    ----------
    batches : list of ndarray of int64
        The rows of each batch. Together they have at least as many rows as the result has batches.
    num_replicas : int
        The number of batches becomes a multiple of this.

    Returns
    -------
    list of ndarray of int64
        The batches; the second half of a divided one is at the end.
    """
    missing = -len(batches) % num_replicas
    if not missing:
        return batches
    batches = list(batches)
    largest = [(-len(batch), index) for index, batch in enumerate(batches)]
    heapq.heapify(largest)
    for _ in range(missing):
        index = heapq.heappop(largest)[1]
        batch = batches[index]
        half = -(-len(batch) // 2)
        batches[index] = batch[:half]
        batches.append(batch[half:])
        heapq.heappush(largest, (-half, index))
        heapq.heappush(largest, (half - len(batch), len(batches) - 1))
    return batches


def divide(tokens: np.ndarray, num_replicas: int) -> np.ndarray:
    """Give every replica one batch per step, such that the batches of a step are of similar size.

    The batches are sorted by their number of valid steps, and each training step takes the next `num_replicas` of them,
    so that no process waits long for the others. Totals of two replicas differ by at most the sum of the steps' ranges,
    thus by no more than the largest and the smallest batch do, whoever gets which batch of a step; giving the largest
    to the replica with the least so far brings them closer still.

    Parameters
    ----------
    tokens : ndarray of shape (K,), int64
        The number of valid steps of each batch; K is a multiple of `num_replicas`.
    num_replicas : int
        Number of processes that share the batches.

    Returns
    -------
    ndarray of shape (K / num_replicas, num_replicas), int64
        The batch of each step and replica, in the order of the steps' first batches.
    """
    steps = np.argsort(-tokens, kind="stable").reshape(-1, num_replicas)
    if num_replicas > 1:
        totals = np.zeros(num_replicas, np.int64)
        for step in steps:
            step[np.argsort(totals, kind="stable")] = step.copy()
            totals += tokens[step]
    return steps[np.argsort(steps.min(axis=1), kind="stable")]
