"""The evaluation protocol as a slow loop over a full sort, for comparison."""

from __future__ import annotations

import numpy as np


def evaluate(
    distances, query_pids, gallery_pids, query_camids, gallery_camids, ap="step", unmatched="skip", max_rank=50,
    ignore_cameras=False, leave_one_out=False,
):  # fmt: skip
    """-> mAP, mINP, cmc (max_rank,) of (Q, G) distances."""
    aps, inps, curves = [], [], []
    for i, (row, pid, camid) in enumerate(zip(distances, query_pids, query_camids)):
        order = [j for j in sorted(range(len(row)), key=lambda j: (row[j], j)) if gallery_pids[j] != -1]
        if not ignore_cameras:
            order = [j for j in order if (gallery_pids[j], gallery_camids[j]) != (pid, camid)]
        if leave_one_out:
            order = [j for j in order if j != i]
        hits = [rank for rank, j in enumerate(order, 1) if gallery_pids[j] == pid and pid > 0]
        if hits:
            precision = [found / rank for found, rank in enumerate(hits, 1)]
            before = [(found - 1) / (rank - 1) if rank > 1 else 1 for found, rank in enumerate(hits, 1)]
            aps.append(np.mean(precision if ap == "step" else (np.array(precision) + before) / 2))
            inps.append(len(hits) / hits[-1])
            curves.append([hits[0] <= k for k in range(1, max_rank + 1)])
        elif unmatched == "zero":
            aps.append(0)
            inps.append(0)
            curves.append([False] * max_rank)
    return np.mean(aps), np.mean(inps), np.mean(curves, axis=0)


def first(distances, k, junk):
    """-> (Q, k) indices by (distance, index), -1 where (Q, G) ``junk`` leaves fewer."""
    table = []
    for row, leave in zip(distances, junk):
        order = [j for j in sorted(range(len(row)), key=lambda j: (row[j], j)) if not leave[j]]
        table.append((order + [-1] * k)[:k])
    return np.array(table)


def rerank(squared, num_queries, k1, k2, lam, power):
    """-> (Q, G) k-reciprocal distances of (N, N) squared distances, dense and by set algebra."""
    n = len(squared)
    relative = (squared / squared.max(axis=1, keepdims=True)) ** power
    order = [sorted(range(n), key=lambda j: (squared[i, j], j)) for i in range(n)]

    def reciprocal(i, k):
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    weights = np.zeros((n, n))
    for i in range(n):
        whole = reciprocal(i, k1)
        expanded = set(whole)
        for j in whole:
            half = reciprocal(j, round(k1 / 2))
            if 3 * len(half & whole) > 2 * len(half):
                expanded |= half
        for j in expanded:
            weights[i, j] = np.exp(-relative[i, j])
        weights[i] /= max(weights[i].sum(), 1e-30)
    weights = np.array([weights[order[i][:k2]].mean(axis=0) for i in range(n)])
    result = np.zeros((num_queries, n - num_queries))
    for i in range(num_queries):
        for j in range(num_queries, n):
            shared = np.minimum(weights[i], weights[j]).sum()
            result[i, j - num_queries] = lam * relative[i, j] + (1 - lam) * (1 - shared / (2 - shared))
    return result


def all_shots(distances, query_pids, gallery_pids, query_camids, gallery_camids, max_rank=50):
    """-> CMC (max_rank,) where every right image counts, by the wrong ones before it."""
    curves = []
    for row, pid, camid in zip(distances, query_pids, query_camids):
        order = sorted(range(len(row)), key=lambda j: (row[j], j))
        order = [j for j in order if gallery_pids[j] != -1 and (gallery_pids[j], gallery_camids[j]) != (pid, camid)]
        wrong, found = 0, []
        for j in order:
            if gallery_pids[j] == pid and pid > 0:
                found.append([wrong < k for k in range(1, max_rank + 1)])
            else:
                wrong += 1
        if found:
            curves.append(np.mean(found, axis=0))
    return np.mean(curves, axis=0)


def single_shot(distances, query_pids, gallery_pids, query_camids, gallery_camids, draws, seed, max_rank=50):
    """-> CMC (max_rank,) where every draw shows one image of each person by other cameras."""
    kept = [j for j in range(len(gallery_pids)) if gallery_pids[j] != -1]
    rng = np.random.default_rng(seed)
    curves = []
    for _ in range(draws):
        priority = dict(zip(kept, rng.permutation(len(kept))))
        for row, pid, camid in zip(distances, query_pids, query_camids):
            shown = {}
            for j in sorted(kept, key=priority.__getitem__):
                if gallery_camids[j] != camid:
                    shown[gallery_pids[j]] = j
            if pid > 0 and pid in shown:
                order = sorted(shown.values(), key=lambda j: (row[j], j))
                rank = order.index(shown[pid]) + 1
                curves.append([rank <= k for k in range(1, max_rank + 1)])
    return np.mean(curves, axis=0)


def pairs(distances, query_pids, gallery_pids, query_camids, gallery_camids):
    """-> distances of all right and of all wrong pairs the protocol leaves."""
    right, wrong = [], []
    for row, pid, camid in zip(distances, query_pids, query_camids):
        for distance, other, camera in zip(row, gallery_pids, gallery_camids):
            if pid == -1 or other == -1 or (pid > 0 and (other, camera) == (pid, camid)):
                continue
            (right if pid > 0 and other == pid else wrong).append(distance)
    return np.array(right), np.array(wrong)


def nearest(distances, query_pids, gallery_pids, query_camids, gallery_camids):
    """-> for each query that is not junk: distance of the nearest image, whether it is right, whether any is."""
    table = []
    for row, pid, camid in zip(distances, query_pids, query_camids):
        if pid == -1:
            continue
        left = [
            (distance, j)
            for j, distance in enumerate(row)
            if gallery_pids[j] != -1 and not (pid > 0 and (gallery_pids[j], gallery_camids[j]) == (pid, camid))
        ]
        distance, first = min(left, default=(np.inf, 0))
        any_right = any(pid > 0 and gallery_pids[j] == pid for _, j in left)
        table.append((distance, bool(left) and any_right and gallery_pids[first] == pid, any_right))
    return [np.array(column) for column in zip(*table)]
