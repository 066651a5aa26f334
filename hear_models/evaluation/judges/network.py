"""The probe that the kit trains on frozen embeddings, with its backward pass and Adam written out.

The arithmetic is that of `nn.Linear`, `nn.BatchNorm1d`, `nn.Dropout`, `nn.ReLU` and
`torch.optim.Adam`, kernel by kernel, so that on one machine the bits are those of the kit. Saved are autograd, modules,
the optimiser's Python, and the memory that each step would ask for anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from hear_models.evaluation.judges.masks import fill_mask

BETA_1, BETA_2, ADAM_EPS = 0.9, 0.999, 1e-8  # torch.optim.Adam's defaults, which the kit keeps
BATCH_NORM_MOMENTUM, BATCH_NORM_EPS = 0.1, 1e-5
SUMMARY_ROWS = 64  # rows of random input that the kit's summary printer draws after building a network
# Vector kernels finish a tensor's end element by element, where rounding may differ. A tensor whose size is a multiple
# of this has no such end, so it may lie in one buffer with others without a bit changing.
WHOLE_VECTORS = 64

INITIALISERS = ("xavier_uniform", "xavier_normal")


class _LayerWork:
    """What one hidden layer computes on its way forward, needed on the way back; float32 [rows, width]."""

    def __init__(self, rows: int, width: int, device: torch.device) -> None:
        self.linear, self.hidden, self.mask, self.gradient = (torch.empty(rows, width, device=device) for _ in range(4))
        self.mean, self.inverse = (torch.empty(width, device=device) for _ in range(2))


class Probe:
    """A multilayer perceptron [rows, dim] → logits [rows, classes] with its gradients and Adam's state.

    `hyper_parameters` are those of one grid point. `generator` is the CPU generator of the search: the first weights
    are drawn from it on any device, in the kit's order; `dropout_generator` gives the masks (the same one on the CPU).
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        hyper_parameters: Mapping[str, Any],
        generator: torch.Generator,
        dropout_generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.hyper_parameters = hyper_parameters
        self.dropout = float(hyper_parameters["dropout"])
        self.generator = dropout_generator
        self.device = device
        width, depth = int(hyper_parameters["hidden_dim"]), int(hyper_parameters["hidden_layers"])
        sizes = [dim] + [width] * depth
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, inputs in enumerate(sizes):
            outputs = width if layer < depth else classes
            shapes[f"weight{layer}"], shapes[f"bias{layer}"] = (outputs, inputs), (outputs,)
            if layer < depth:
                shapes[f"scale{layer}"] = shapes[f"shift{layer}"] = (width,)
        self.depth = depth
        self._allocate(shapes)
        self._initialise(generator)
        torch.rand(SUMMARY_ROWS, dim, generator=generator)
        self.running_mean = [torch.zeros(width, device=device) for _ in range(depth)]
        self.running_var = [torch.ones(width, device=device) for _ in range(depth)]
        self.workspaces: dict[int, list[_LayerWork]] = {}  # by rows of a batch
        self.steps = 0

    def _allocate(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """One buffer for everything that may share one, then the rest; parameters and gradients are views of it."""
        whole = [name for name, shape in shapes.items() if math.prod(shape) % WHOLE_VECTORS == 0]
        groups = [whole] if whole else []
        groups += [[name] for name in shapes if name not in whole]
        self.parameters: dict[str, torch.Tensor] = {}
        self.gradients: dict[str, torch.Tensor] = {}
        self.buffers: list[tuple[torch.Tensor, ...]] = []  # (parameters, gradients, Adam's means, its squares, work)
        for names in groups:
            size = sum(math.prod(shapes[name]) for name in names)
            buffer = tuple(torch.zeros(size, device=self.device) for _ in range(5))
            start = 0
            for name in names:
                stop = start + math.prod(shapes[name])
                self.parameters[name] = buffer[0][start:stop].view(shapes[name])
                self.gradients[name] = buffer[1][start:stop].view(shapes[name])
                start = stop
            self.buffers.append(buffer)

    def _initialise(self, generator: torch.Generator) -> None:
        """Draw as the kit's modules do: nn.Linear's own weights and biases, then the Xavier draw over the weights."""
        kind = self.hyper_parameters["initialization"]
        if kind not in INITIALISERS:
            raise ValueError(f"initialization must be one of {INITIALISERS}, not {kind!r}")
        for layer in range(self.depth + 1):
            weight = torch.empty(self.parameters[f"weight{layer}"].shape)
            bias = torch.empty(self.parameters[f"bias{layer}"].shape)
            fan_out, fan_in = weight.shape
            # nn.Linear: Kaiming uniform with a = sqrt(5); only the generator's state matters, the values are replaced
            weight.uniform_(-1.0, 1.0, generator=generator)
            bound = 1 / math.sqrt(fan_in)
            bias.uniform_(-bound, bound, generator=generator)
            gain = 1.0 if layer == 0 else math.sqrt(2.0)
            deviation = gain * math.sqrt(2.0 / float(fan_in + fan_out))
            if kind == "xavier_uniform":
                bound = math.sqrt(3.0) * deviation
                weight.uniform_(-bound, bound, generator=generator)
            else:
                weight.normal_(0.0, deviation, generator=generator)
            self.parameters[f"weight{layer}"].copy_(weight)
            self.parameters[f"bias{layer}"].copy_(bias)
            if layer < self.depth:
                self.parameters[f"scale{layer}"].fill_(1.0)

    def train_on(self, rows: torch.Tensor, loss_gradient: LossGradient) -> None:
        """One step of Adam on a batch, float32 [rows, dim]; `loss_gradient` maps logits to d loss / d logits."""
        weights, hidden = self.parameters, rows
        work = self._workspace(len(rows))
        for layer, at in enumerate(work):
            torch.addmm(weights[f"bias{layer}"], hidden, weights[f"weight{layer}"].t(), out=at.linear)
            torch.ops.aten.native_batch_norm.out(
                at.linear,
                weights[f"scale{layer}"],
                weights[f"shift{layer}"],
                self.running_mean[layer],
                self.running_var[layer],
                True,
                BATCH_NORM_MOMENTUM,
                BATCH_NORM_EPS,
                out=at.hidden,
                save_mean=at.mean,
                save_invstd=at.inverse,
            )
            if self.dropout > 0:
                fill_mask(at.mask, 1 - self.dropout, self.generator)
                at.hidden.mul_(at.mask)
            hidden = at.hidden.relu_()
        logits = torch.addmm(weights[f"bias{self.depth}"], hidden, weights[f"weight{self.depth}"].t())
        gradient = loss_gradient(logits)
        for layer in range(self.depth, 0, -1):
            below, at = layer - 1, work[layer - 1]
            self._gradients_of_linear(layer, gradient, at.hidden)
            torch.mm(gradient, weights[f"weight{layer}"], out=at.gradient)
            torch.ops.aten.threshold_backward.grad_input(at.gradient, at.hidden, 0, grad_input=at.gradient)
            if self.dropout > 0:
                at.gradient.mul_(at.mask)
            gradient, scale, shift = torch.ops.aten.native_batch_norm_backward(
                at.gradient,
                at.linear,
                weights[f"scale{below}"],
                self.running_mean[below],
                self.running_var[below],
                at.mean,
                at.inverse,
                True,
                BATCH_NORM_EPS,
                [True, True, True],
            )
            self.gradients[f"scale{below}"].copy_(scale)
            self.gradients[f"shift{below}"].copy_(shift)
        self._gradients_of_linear(0, gradient, rows)
        self._adam()

    def _gradients_of_linear(self, layer: int, gradient: torch.Tensor, inputs: torch.Tensor) -> None:
        torch.mm(gradient.t(), inputs, out=self.gradients[f"weight{layer}"])
        torch.sum(gradient, 0, out=self.gradients[f"bias{layer}"])

    def _workspace(self, rows: int) -> list[_LayerWork]:
        """The hidden layers' arrays for a batch of that many rows, kept: fresh pages cost more than arithmetic."""
        if rows not in self.workspaces:
            width = int(self.hyper_parameters["hidden_dim"])
            self.workspaces[rows] = [_LayerWork(rows, width, self.device) for _ in range(self.depth)]
        return self.workspaces[rows]

    def _adam(self) -> None:
        self.steps += 1
        step = float(self.steps)
        size = float(self.hyper_parameters["lr"]) / (1 - BETA_1**step)
        root = (1 - BETA_2**step) ** 0.5
        for values, gradient, mean, square, work in self.buffers:
            mean.lerp_(gradient, 1 - BETA_1)
            square.mul_(BETA_2).addcmul_(gradient, gradient, value=1 - BETA_2)
            torch.sqrt(square, out=work)
            work.div_(root).add_(ADAM_EPS)
            values.addcdiv_(mean, work, value=-size)

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits [rows, classes] in evaluation mode: running statistics, no dropout."""
        weights = self.parameters
        hidden = rows
        for layer in range(self.depth):
            hidden = torch.addmm(weights[f"bias{layer}"], hidden, weights[f"weight{layer}"].t())
            hidden, _, _ = torch.native_batch_norm(
                hidden,
                weights[f"scale{layer}"],
                weights[f"shift{layer}"],
                self.running_mean[layer],
                self.running_var[layer],
                False,
                BATCH_NORM_MOMENTUM,
                BATCH_NORM_EPS,
            )
            hidden.relu_()
        return torch.addmm(weights[f"bias{self.depth}"], hidden, weights[f"weight{self.depth}"].t())

    def state(self) -> list[torch.Tensor]:
        """Copies of everything that `logits` depends on: a checkpoint in memory."""
        return [tensor.clone() for tensor in self._stateful()]

    def restore(self, state: list[torch.Tensor]) -> None:
        """Put a checkpoint of `state` back."""
        for tensor, saved in zip(self._stateful(), state, strict=True):
            tensor.copy_(saved)

    def _stateful(self) -> list[torch.Tensor]:
        return [*(buffer[0] for buffer in self.buffers), *self.running_mean, *self.running_var]


class LossGradient:
    """d loss / d logits for one batch of targets, float32 [rows, classes]; the loss itself is not needed to train."""

    def __init__(self, targets: torch.Tensor, multilabel: bool) -> None:
        self.targets = targets
        self.multilabel = multilabel
        if not multilabel:
            # cross entropy, mean over rows: the gradient at the log-softmax is the same in every epoch
            rows = len(targets)
            self.at_log_softmax = torch.zeros_like(targets)
            self.at_log_softmax[torch.arange(rows, device=targets.device), targets.argmax(1)] = -1.0 / rows

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        if self.multilabel:
            return logits.sigmoid().sub_(self.targets).div_(logits.numel())
        outputs = torch.log_softmax(logits, 1)
        return torch.ops.aten._log_softmax_backward_data(self.at_log_softmax, outputs, 1, logits.dtype)


def loss(logits: torch.Tensor, targets: torch.Tensor, multilabel: bool) -> float:
    """Mean loss: cross entropy on the row's label, or binary cross entropy over all entries; as the kit logs it."""
    if multilabel:
        return float(torch.nn.functional.binary_cross_entropy_with_logits(logits, targets))
    return float(torch.nn.functional.cross_entropy(logits, targets.argmax(1)))


def activation(logits: torch.Tensor, multilabel: bool) -> torch.Tensor:
    """Outputs in [0, 1]: sigmoid for multilabel, softmax over classes for multiclass."""
    return torch.sigmoid(logits) if multilabel else torch.softmax(logits, 1)
