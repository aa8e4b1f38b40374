"""Identity classification: cross-entropy with label smoothing."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from regard.registry import LOSSES

__all__ = ["CrossEntropy"]


@LOSSES.register("cross_entropy")
class CrossEntropy(nn.Module):
    """Cross-entropy against (1 - smoothing) * onehot + smoothing / N.

    Args:
        smoothing: weight of the uniform distribution in the target.
        smoothing_ids: the N of smoothing / N; None is the number of identities. The released APNet and MSEA-Net
            train every data set with 751 here, so that their targets do not sum to one elsewhere than on Market-1501;
            give 751 to train exactly as they did.
    """

    def __init__(self, smoothing: float = 0.1, smoothing_ids: int | None = None):
        super().__init__()
        self.smoothing = smoothing
        self.smoothing_ids = smoothing_ids

    def forward(self, logits: Tensor, pids: Tensor) -> Tensor:
        """Mean loss of (B, N) logits against (B,) labels."""
        if self.smoothing_ids is None:
            return F.cross_entropy(logits, pids, label_smoothing=self.smoothing)
        log_prob = F.log_softmax(logits, dim=1)
        hit = F.nll_loss(log_prob, pids)
        return (1 - self.smoothing) * hit - self.smoothing / self.smoothing_ids * log_prob.sum(1).mean()
