"""The four networks of MLPerf Tiny, in plain torch, because no public package carries them.

"MLPerf Tiny Benchmark" (Banbury et al., https://arxiv.org/abs/2106.07597) defines them by Keras code at
https://github.com/mlcommons/tiny, folder benchmark/training; these are the sizes of its closed division. Batch
normalization is left out: what is deployed has it folded into the weights and the bias of the layer before it.
"""

from itertools import pairwise

from torch import Tensor, nn

# Where Keras pads a 3 x 3 convolution of stride 2 and an even size: left, right, top, bottom.
HALVING = (0, 1, 0, 1)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution with the padding that Keras calls "same": size / stride rows and columns, rounded up."""
    if stride == 1 or kernel == 1:
        return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups))
    return nn.Sequential(nn.ZeroPad2d(HALVING), nn.Conv2d(inputs, outputs, kernel, stride, groups=groups))


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A depthwise convolution and one across channels, each with ReLU."""
    depthwise = conv(inputs, inputs, stride=stride, groups=inputs)
    return nn.Sequential(depthwise, nn.ReLU(), conv(inputs, outputs, 1), nn.ReLU())


def classifier(channels: int, classes: int) -> nn.Sequential:
    """The average of each channel, one linear layer, probabilities."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes), nn.Softmax(1))


class Residual(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution where the size changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(inputs, outputs, stride=stride), nn.ReLU(), conv(outputs, outputs))
        self.shortcut = conv(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Both ways, added."""
        seen = self.body(x)
        return self.relu(self.shortcut(x) + seen)


def resnet8() -> nn.Sequential:
    """ResNet-8, image classification on CIFAR-10: 3 x 32 x 32 in, 10 classes out.

    With the 16 filters of the benchmark's trained model; the default of the Keras code has since become 26.
    """
    blocks = [Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)]
    return nn.Sequential(conv(3, 16), nn.ReLU(), *blocks, classifier(64, 10))


def ds_cnn() -> nn.Sequential:
    """DS-CNN, keyword spotting: 49 windows of 10 cepstral coefficients in, 12 classes out."""
    first = [nn.ZeroPad2d((1, 1, 4, 5)), nn.Conv2d(1, 64, (10, 4), stride=2), nn.ReLU()]
    return nn.Sequential(*first, *[separable(64, 64) for _ in range(4)], classifier(64, 12))


def mobilenet_v1_025() -> nn.Sequential:
    """MobileNetV1 with a quarter of the channels, visual wake words: 3 x 96 x 96 in, person or none out."""
    channels = [8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256]
    halved = {1, 3, 5, 11}  # where the depthwise convolution has stride 2
    blocks = [separable(channels[i], channels[i + 1], 2 if i in halved else 1) for i in range(13)]
    return nn.Sequential(conv(3, 8, stride=2), nn.ReLU(), *blocks, classifier(256, 2))


def autoencoder() -> nn.Sequential:
    """The deep autoencoder, anomaly detection in sound: 5 frames of 128 mel bands in, the same out."""
    widths = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128]
    hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(128, 640))
