"""Drawing splits: groups stay whole, labels are spread as the shares say, and the seed decides the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from hear_models.errors import UsageError


def draw_splits(
    labels: Sequence[Collection[str]], groups: Sequence[str], shares: Mapping[str, float], seed: int
) -> list[str]:
    """Assign every clip to a split: `labels[i]` and `groups[i]` of clip i → its split, a key of `shares`.

    Clips of one group get the same split. Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011) over groups:
    large groups first, among equals those with the rarest label, each to the split that lacks most of its labels. With
    equal shares, one clip a group and one label a clip, the counts of a label differ by at most one over the splits.
    No split is empty. The result depends on the order of the clips and on `seed` only.

    Raises UsageError: fewer groups than splits.
    """
    names, share = list(shares), np.array(list(shares.values()), dtype=float)
    share = share / share.sum()
    group_names = sorted(set(groups))
    if len(group_names) < len(names):
        what = "clips" if len(group_names) == len(groups) else "groups"
        raise UsageError(
            f"{len(group_names)} {what} cannot fill {len(names)} splits. Ask for fewer, or bring more data."
        )
    group_of = {name: index for index, name in enumerate(group_names)}
    vocabulary = {label: index for index, label in enumerate(sorted({label for said in labels for label in said}))}
    sizes = np.zeros(len(group_names), dtype=int)
    counts = np.zeros((len(group_names), max(1, len(vocabulary))))  # [groups, labels]
    for said, group in zip(labels, groups, strict=True):
        sizes[group_of[group]] += 1
        for label in said:
            counts[group_of[group], vocabulary[label]] += 1
    totals = np.maximum(counts.sum(axis=0), 1)
    rarest = np.where(counts > 0, totals, np.inf).min(axis=1)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(group_names))
    order = order[np.lexsort((rarest[order], -sizes[order]))]  # stable: the permutation stays among equals
    lacking = share[:, None] * counts.sum(axis=0)  # [splits, labels]
    lacking_clips = share * len(labels)
    chosen = np.zeros(len(group_names), dtype=int)
    for group in order:
        wish = (lacking / totals) @ counts[group]
        best = np.flatnonzero(wish >= wish.max() - 1e-9)
        split = best[np.argmax(lacking_clips[best])]
        chosen[group] = split
        lacking[split] -= counts[group]
        lacking_clips[split] -= sizes[group]
    _fill_empty(chosen, sizes, len(names))
    return [names[chosen[group_of[group]]] for group in groups]


def _fill_empty(chosen: np.ndarray, sizes: np.ndarray, splits: int) -> None:
    """Give every empty split the smallest group of the split that has most groups."""
    for split in range(splits):
        if not (chosen == split).any():
            donors = np.flatnonzero(chosen == np.bincount(chosen, minlength=splits).argmax())
            chosen[donors[np.argmin(sizes[donors])]] = split
