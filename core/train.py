"""Training: draw a batch, forward, loss, backward, clip, step. One `Trainer.advance()` is one step."""

import math
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from core.config import REWARM as REWARM
from core.config import RunConfig, TrainConfig
from core.decode import DecodeOptions, generate
from core.model import Transformer
from core.packing import Packing
from core.tasks import Batch, Data
from core.tokens import PAD

UNSEEN = 128  # strings generated at each evaluation
WORTH = 0.9  # packing pays where it leaves less than this share of the places: its masks cost a little


@dataclass(frozen=True)
class StepRecord:
    """One step. loss in nats a token, lr and gradient norm as used; accuracies only at evaluation steps.

    token_accuracy is teacher forced; exact_match is the share of unseen strings that are **generated** without a mistake.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens_per_s: float
    token_accuracy: float | None = None
    exact_match: float | None = None


@dataclass
class TrainingState:
    """All that a run needs to go on exactly as if it had never stopped."""

    step: int
    weights: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # AdamW's, by parameter name
    lr: float | None = None  # the peak rate, where a person changed it


@dataclass(frozen=True)
class Evaluation:
    """loss (nats a token) and token_accuracy, teacher forced; exact_match and the generated ids (B, T)."""

    loss: float
    token_accuracy: float
    exact_match: float
    generated: Tensor


class Diverged(RuntimeError):
    """The loss or the gradient is not finite. The weights are still those of the last good step."""


def pick_device(wanted: str) -> torch.device:
    """auto: CUDA, then MPS, then CPU. A device that is not there is replaced by the CPU."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = next(name for name in ("cuda", "mps", "cpu") if available[name])
    return torch.device(wanted if available[wanted] else "cpu")


def usable(device: torch.device) -> torch.device:
    """The device, or the CPU where it is there and cannot compute: a wrong driver, a GPU that this torch does not know."""
    try:
        (torch.ones(1, device=device) + 1).item()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError):  # the second where torch was built without it
        return torch.device("cpu")
    return device


def learning_rate(config: TrainConfig, step: int, peak: float) -> float:
    """The rate of step 1, 2, …: a straight line up to the peak, then constant, cosine to 0, or peak · √(warmup / step)."""
    if step < config.warmup:
        return peak * step / config.warmup
    if config.schedule == "cosine":
        rest = (step - config.warmup) / max(1, config.steps - config.warmup)
        return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))
    return peak * math.sqrt(max(config.warmup, 1) / step) if config.schedule == "inverse_sqrt" else peak


def added_rate(config: TrainConfig, step: int, peak: float, added: Sequence[int]) -> float:
    """The rate of a step where steps were added to the run: `added` is where it would have ended, then every later end.

    Steps before the first of them keep their rate. Added steps of a cosine run warm up again to the peak, over a tenth of
    them or the run's warm-up if that is shorter, and decay to 0 at their end (a warm restart: Loshchilov and Hutter 2017);
    the other schedules go on.
    """
    stretch = bisect_left(added, step) - 1
    if stretch < 0 or config.schedule != "cosine":
        return learning_rate(config, step, peak)
    length = added[min(stretch + 1, len(added) - 1)] - added[stretch]
    again = config.model_copy(update={"steps": length, "warmup": min(config.warmup, length // 10)})
    return learning_rate(again, step - added[stretch], peak)


class Trainer:
    """Model, optimizer and data of one run, after `step` steps.

    Given a seed the start weights, the batches and dropout are fixed, so on the CPU a resumed run is bit-for-bit the
    uninterrupted one. `added`: ends of added stretches, see `added_rate`; who asks for more steps does not want to stop early.
    `cold_at`: the step at which the run began with weights but without moments; from there the rate grows over REWARM steps.
    """

    def __init__(
        self,
        run: RunConfig,
        resume: TrainingState | None = None,
        added: Sequence[int] = (),
        cold_at: int | None = None,
    ) -> None:
        self.run, self.step, self.peak = run, 0, run.train.lr
        self.added, self.cold_at = tuple(added), cold_at
        self.steps = self.added[-1] if self.added else run.train.steps
        self.stopped_early = False
        self.device = usable(pick_device(run.train.device))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.train.seed)
            self.model = Transformer(run.model, run.task.longest_target).to(self.device)
        self.data = Data(run, self.device)
        self.parameters = dict(self.model.named_parameters())
        # β₂ = 0.98 as in the paper (§5.3); one fused update for all parameters.
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=run.train.lr,
            betas=(0.9, 0.98),
            weight_decay=run.train.weight_decay,
            fused=True,
        )
        self._unseen: Batch | None = None
        if resume is not None:
            self.restore(resume)

    @property
    def done(self) -> bool:
        return self.stopped_early or self.step >= self.steps

    @property
    def unseen(self) -> Batch:
        if self._unseen is None:
            self._unseen = self.data.unseen(UNSEEN)
        return self._unseen

    def rate(self, step: int) -> float:
        """The learning rate of a step from the next one on."""
        rate = added_rate(self.run.train, step, self.peak, self.added)
        return rate if self.cold_at is None else rate * min(1.0, (step - self.cold_at) / REWARM)

    def set_lr(self, lr: float) -> None:
        """Change the peak learning rate from the next step on."""
        self.peak = lr

    def advance(self) -> StepRecord:
        """One training step. Raises Diverged, before the weights are touched, when loss or gradient is not finite."""
        config, start = self.run.train, time.perf_counter()
        lr = self.rate(self.step + 1)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        batch = self.data.train_batch(self.step)
        self.model.train()
        if self.run.model.dropout:
            # Dropout draws from torch's global generator; tying it to (seed, step) makes a resumed run the same run.
            torch.manual_seed((config.seed * 1_000_003 + self.step) % 2**63)
        loss = token_loss(self.model(batch.src, batch.tgt_in, packing=self.packing(batch)), batch.tgt_out)
        for parameter in self.parameters.values():
            parameter.grad = None
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters.values() if p.grad is not None])
        loss_value, norm_value = torch.stack((loss.detach(), norm)).tolist()  # one wait for the device, not two
        if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
            raise Diverged(f"loss {loss_value}, gradient norm {norm_value} at step {self.step + 1}")
        if 0 < config.clip < norm_value:
            torch.nn.utils.clip_grads_with_norm_(self.parameters.values(), config.clip, norm)
        self.optimizer.step()
        self.step += 1
        rate = batch.tgt_out.numel() / (time.perf_counter() - start)
        accuracy = exact = None
        if self.step % config.eval_every == 0 or self.step in (config.steps, *self.added):
            result = evaluate(self.model, self.unseen)
            accuracy, exact = result.token_accuracy, result.exact_match
            enough = config.stop_at_exact_match
            self.stopped_early = enough is not None and exact >= enough and not self.added
        return StepRecord(self.step, loss_value, lr, norm_value, rate, accuracy, exact)

    def packing(self, batch: Batch) -> Packing | None:
        """On the CPU, where padding costs time. A model that does not mask padding has to see it."""
        config = self.run.model
        if self.device.type != "cpu" or not config.padding_mask:
            return None
        packing = Packing(batch.src, batch.tgt_in, config.causal_mask)
        return packing if packing.share < WORTH else None

    def state(self) -> TrainingState:
        moments = {
            name: {key: value.detach().clone() for key, value in self.optimizer.state[p].items()}
            for name, p in self.parameters.items()
            if self.optimizer.state.get(p)
        }
        weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        return TrainingState(self.step, weights, moments, self.peak)

    def restore(self, state: TrainingState) -> None:
        self.step, self.peak = state.step, self.peak if state.lr is None else state.lr
        self.model.load_state_dict(state.weights)
        for name, moments in state.moments.items():
            parameter = self.parameters[name]
            # AdamW's fused step count is a tensor beside the parameter; the moments lie where it lies.
            self.optimizer.state[parameter] = {
                key: value.clone().to(parameter.device) for key, value in moments.items()
            }


def train(run: RunConfig, resume: TrainingState | None = None) -> Iterator[StepRecord]:
    """Train a run to its end, or until `stop_at_exact_match`; yields one record a step. Raises Diverged."""
    trainer = Trainer(run, resume)
    while not trainer.done:
        yield trainer.advance()


def token_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy in nats over real target tokens. logits (B, T, V), target (B, T). A guess costs ln V."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)


@torch.no_grad()
def evaluate(model: Transformer, batch: Batch) -> Evaluation:
    """Loss and token accuracy with the right prefix given (teacher forcing), exact match of what the model writes itself."""
    model.eval()
    logits = model(batch.src, batch.tgt_in)
    real = batch.tgt_out != PAD
    accuracy = (logits.argmax(-1) == batch.tgt_out)[real].float().mean()
    width = batch.tgt_out.shape[1]
    # A correct answer is never longer than the longest target, so nothing is lost by stopping there.
    generated = generate(model, batch.src, DecodeOptions(max_len=width))
    generated = F.pad(generated, (0, width - generated.shape[1]))
    exact = (generated == batch.tgt_out).all(1).float().mean()
    return Evaluation(token_loss(logits, batch.tgt_out).item(), accuracy.item(), exact.item(), generated)
