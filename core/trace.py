"""Trace: labelled tensors of one forward pass, and edits to them.

A trace is handed down explicitly. The model calls `put(trace, name, x)` wherever something can be looked at; without a
trace that is the identity, so looking never changes what is looked at. There are no hooks and nothing stays on modules.
"""

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

Edit = Callable[[Tensor], Tensor]
DERIVED = ("scores", "pattern")  # computed beside the output, so an edit to them could have no effect


class Trace(Mapping[str, Tensor]):
    """Records tensors by name, e.g. `trace["decoder.1.cross.pattern"]` (B, H, Tq, Tk); `edits` replaces them on the way.

    Names are `{encoder|decoder}.{layer}.{self|cross}.{q,k,v,mask,scores,pattern,z,out}`,
    `{encoder|decoder}.{layer}.{resid_pre,resid_self,resid_mid,ffn,resid_post}`, `embed.{src,tgt}[.token|.position]`,
    `memory` and `logits`. Layers count from 0. `pattern` is after softmax and mask, before dropout.

    `keep` says which names to remember, all of them without it: a deep model on a long input has gigabytes to show, and
    what nobody keeps is not computed beside the output at all.

    Raises ValueError for an edit to scores or pattern (edit q, k, mask or z instead).
    """

    def __init__(self, edits: Mapping[str, Edit] | None = None, keep: Callable[[str], bool] | None = None) -> None:
        self.edits, self.keep = dict(edits or {}), keep
        self._tensors: dict[str, Tensor] = {}
        for name in self.edits:
            if name.rpartition(".")[2] in DERIVED:
                raise ValueError(f"{name} is computed beside the output and cannot be edited; edit q, k, mask or z")

    def put(self, name: str, x: Tensor) -> Tensor:
        """Keep x under its name; returns x, or what the edit of that name makes of it."""
        if name in self.edits:
            x = self.edits[name](x)
        if self.wants(name):
            self._tensors[name] = x
        return x

    def wants(self, name: str) -> bool:
        """Whether a tensor of this name would be kept."""
        return self.keep is None or self.keep(name)

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class Scope:
    """A trace seen from one place of the model: `Scope(trace, "encoder.0")` puts "self.q" as "encoder.0.self.q"."""

    def __init__(self, trace: "Trace | Scope", prefix: str) -> None:
        self._trace, self._prefix = trace, prefix

    def put(self, name: str, x: Tensor) -> Tensor:
        return self._trace.put(f"{self._prefix}.{name}", x)

    def wants(self, name: str) -> bool:
        return self._trace.wants(f"{self._prefix}.{name}")


AnyTrace = Trace | Scope | None


def scope(trace: AnyTrace, prefix: str) -> AnyTrace:
    return None if trace is None else Scope(trace, prefix)


def put(trace: AnyTrace, name: str, x: Tensor) -> Tensor:
    return x if trace is None else trace.put(name, x)


def zero_head(head: int) -> Edit:
    """An edit for a `z` (B, H, T, D): the head contributes nothing."""

    def edit(z: Tensor) -> Tensor:
        z = z.clone()
        z[:, head] = 0
        return z

    return edit
