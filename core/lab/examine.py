"""What a finished run is asked beside its usual tests: does it know the strings or the rule, short ones or long ones too?"""

import torch

from core.lab.heads import exactly_right
from core.lab.measure import padded
from core.model import Transformer
from core.tasks import Batch, Data
from core.tokens import PAD

STRINGS = 128  # of each question
PADS = 10  # fillers added behind the source
ENOUGH = 16  # strings that a share is told of


def examine(model: Transformer, data: Data, step: int) -> dict[str, float]:
    """Shares of strings generated without a mistake: `trained` (strings of a training batch), `short` and `long` (the shorter
    and the longer half of unseen ones, where lengths differ), `padded` (unseen ones with fillers behind the source, only of a
    model that does not mask padding). A share that is not known is left out.
    """
    model.eval()
    found = {"trained": _share(model, data.draw(step, STRINGS, unseen=False))}
    unseen = data.unseen(STRINGS)
    lengths = (unseen.src != PAD).sum(1)
    middle = lengths.float().median()
    for name, rows in (("short", lengths < middle), ("long", lengths > middle)):
        if int(rows.sum()) >= ENOUGH:
            found[name] = _share(model, _rows(unseen, rows))
    if not model.config.padding_mask and unseen.src.shape[1] + PADS <= model.config.max_len:
        found["padded"] = _share(model, padded(unseen, PADS))
    return {name: round(value, 4) for name, value in found.items()}


def _share(model: Transformer, batch: Batch) -> float:
    return exactly_right(model, batch).float().mean().item()


def _rows(batch: Batch, rows: torch.Tensor) -> Batch:
    return Batch(batch.src[rows], batch.tgt_in[rows], batch.tgt_out[rows])
