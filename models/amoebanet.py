"""AmoebaNet-D for image classification, in plain torch, because no public package carries it.

The cells follow the genotype published in "Regularized Evolution for Image Classifier Architecture Search"
(Real et al., https://arxiv.org/abs/1802.01548): each cell reads the outputs of the two cells before it.
"""

from torch import Tensor, cat, nn
from torch.nn.functional import adaptive_avg_pool2d, pad

# One entry per operation: (index of the state that it reads, name of the operation). States 0 and 1 are the outputs of
# the previous cell and of the one before it; every two operations are added up and give the next state.
Genotype = list[tuple[int, str]]

NORMAL: Genotype = [
    *[(1, "conv_1x1"), (1, "max_pool_3x3")],
    *[(1, "none"), (0, "conv_1x7_7x1")],
    *[(0, "conv_1x1"), (0, "conv_1x7_7x1")],
    *[(2, "max_pool_3x3"), (2, "none")],
    *[(1, "avg_pool_3x3"), (5, "conv_1x1")],
]
NORMAL_OUTPUT = [0, 3, 4, 6]

REDUCTION: Genotype = [
    *[(0, "max_pool_2x2"), (0, "max_pool_3x3")],
    *[(2, "none"), (1, "conv_3x3")],
    *[(2, "conv_1x7_7x1"), (2, "max_pool_3x3")],
    *[(3, "none"), (1, "max_pool_2x2")],
    *[(2, "avg_pool_3x3"), (3, "conv_1x1")],
]
REDUCTION_OUTPUT = [4, 5, 6]


def relu_conv(inputs: int, outputs: int, kernel: tuple[int, int] = (1, 1), stride: int = 1) -> nn.Sequential:
    """ReLU, a convolution that keeps the size (but for its stride), batch normalization."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(outputs))


def bottleneck(channels: int, kernels: list[tuple[int, int]], stride: int) -> nn.Sequential:
    """Convolutions on a quarter of the channels; the last of them carries the stride."""
    narrow = channels // 4
    strides = [1] * (len(kernels) - 1) + [stride]
    inner = [relu_conv(narrow, narrow, kernel, step) for kernel, step in zip(kernels, strides, strict=True)]
    return nn.Sequential(relu_conv(channels, narrow), *inner, relu_conv(narrow, channels))


def operation(name: str, channels: int, stride: int) -> nn.Module:
    """The module that a genotype calls `name`."""
    match name:
        case "none":
            # No genotype here has "none" on an input that a reduction cell must shrink.
            return nn.Identity()
        case "max_pool_2x2":
            return nn.MaxPool2d(2, stride)
        case "max_pool_3x3":
            return nn.MaxPool2d(3, stride, padding=1)
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        case "conv_1x1":
            return relu_conv(channels, channels, stride=stride)
        case "conv_3x3":
            return bottleneck(channels, [(3, 3)], stride)
        case "conv_1x7_7x1":
            return bottleneck(channels, [(1, 7), (7, 1)], stride)
    raise ValueError(f"unknown operation: {name}")


class FactorizedReduce(nn.Module):
    """Halves height and width without losing every second pixel: two strided convolutions, one of them shifted."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.c1 = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.c2 = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Halve `x`."""
        x = self.relu(x)
        shifted = pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
        return self.bn(cat([self.c1(x), self.c2(shifted)], dim=1))


class Cell(nn.Module):
    """One cell: brings its two inputs to `channels`, runs the genotype, concatenates the states that it gives out."""

    def __init__(self, inputs: tuple[int, int], channels: int, reduction: bool, halve_older: bool) -> None:
        super().__init__()
        genotype = REDUCTION if reduction else NORMAL
        self.outputs = REDUCTION_OUTPUT if reduction else NORMAL_OUTPUT
        self.sources = [source for source, _ in genotype]
        self.pre0 = relu_conv(inputs[0], channels)
        # After a reduction cell, the older of the two inputs is still twice as high and wide as the newer one.
        self.pre1 = FactorizedReduce(inputs[1], channels) if halve_older else relu_conv(inputs[1], channels)
        self.ops = nn.ModuleList(
            operation(name, channels, stride=2 if reduction and source < 2 else 1) for source, name in genotype
        )

    def forward(self, newer: Tensor, older: Tensor) -> Tensor:
        """The output of the cell on the outputs of the two cells before it."""
        states = [self.pre0(newer), self.pre1(older)]
        values = list(zip(self.ops, self.sources, strict=True))
        for (left, i), (right, j) in zip(values[::2], values[1::2], strict=True):
            states.append(left(states[i]) + right(states[j]))
        return cat([states[i] for i in self.outputs], dim=1)


class AmoebaNetD(nn.Module):
    """Two reduction cells, then three groups of normal cells with a reduction cell between each two groups."""

    def __init__(self, width: int = 64, cells_per_group: int = 6, classes: int = 1000) -> None:
        super().__init__()
        self.stem = relu_conv(3, width, (3, 3), stride=2)
        group = [False] * cells_per_group
        kinds = [True, True, *group, True, *group, True, *group]
        newer = older = channels = width
        after_reduction = False
        self.cells = nn.ModuleList()
        for reduction in kinds:
            channels *= 2 if reduction else 1
            cell = Cell((newer, older), channels, reduction, after_reduction)
            self.cells.append(cell)
            newer, older, after_reduction = channels * len(cell.outputs), newer, reduction
        self.fc = nn.Linear(newer, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The class scores of a batch of images."""
        newer = older = self.stem(x)
        for cell in self.cells:
            newer, older = cell(newer, older), newer
        return self.fc(adaptive_avg_pool2d(newer, 1).flatten(1))
