"""What needs a CUDA device: it learns there, agrees with the CPU, and running out of memory ends cleanly. Skipped without one."""

import copy
import gc

import pytest
import torch

from core.read import build, fit
from core.train import Trainer, evaluate
from tests.benchmarks.train_step import SIZES, compare

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_training_on_cuda_solves_reverse():
    trainer = Trainer(build({"train": {"device": "cuda"}}))
    while not trainer.done:
        trainer.advance()
    assert next(trainer.model.parameters()).is_cuda
    assert evaluate(trainer.model, trainer.data.unseen(1000)).exact_match >= 0.99


def test_cuda_and_cpu_agree():
    runs = [build({"train": {"device": device, "steps": 5}}) for device in ("cpu", "cuda")]
    cpu, cuda = map(Trainer, runs)
    assert torch.equal(cpu.data.train_batch(3).tgt_out, cuda.data.train_batch(3).tgt_out.cpu())
    losses = [[trainer.advance().loss for _ in range(5)] for trainer in (cpu, cuda)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    a, b = (copy.deepcopy(trainer.model).double().eval() for trainer in (cpu, cpu))
    batch = cpu.data.unseen(64)
    with torch.no_grad():
        here = a(batch.src, batch.tgt_in)
        there = b.cuda()(batch.src.cuda(), batch.tgt_in.cuda()).cpu()
    assert (here - there).abs().max() <= 1e-10


def test_out_of_memory_ends_cleanly():
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    room = torch.cuda.memory_reserved() + 256 * 2**20
    torch.cuda.set_per_process_memory_fraction(room / total)
    try:
        model = {"d_model": 1024, "n_heads": 8, "n_layers": 8, "d_ff": 4096}
        with pytest.raises(torch.OutOfMemoryError):
            Trainer(build(fit({"model": model, "train": {"device": "cuda", "batch_size": 512}}))).advance()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        gc.collect()
        torch.cuda.empty_cache()
    assert Trainer(build({"train": {"device": "cuda"}})).advance().loss > 0


def test_step_is_not_slower_than_torch_nn():
    for title, (model, batch_size, length, _) in SIZES.items():
        ours, plain, fused = compare(model, batch_size, length, "cuda", rounds=30)
        print(f"\n{torch.cuda.get_device_name()}, {title}: {plain / ours:.2f}x, with fused AdamW {fused / ours:.2f}x")
        assert ours <= 1.1 * fused
