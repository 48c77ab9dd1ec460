"""MobileFaceNet in torch, which no package has, from table 1 of the paper.

Named as in TreB1eN/InsightFace_Pytorch.
"""

from collections import OrderedDict

from torch import nn


def conv(inputs, outputs, kernel=1, stride=1, padding=0, groups=1, linear=False):
    size = {"stride": stride, "padding": padding, "groups": groups}
    layers = {"conv": nn.Conv2d(inputs, outputs, kernel, **size, bias=False)}
    layers["bn"] = nn.BatchNorm2d(outputs)
    return nn.Sequential(OrderedDict(layers | ({} if linear else {"prelu": nn.PReLU(outputs)})))


class Bottleneck(nn.Module):
    def __init__(self, inputs, expansion, outputs, stride=1):
        super().__init__()
        inner, self.shortcut = inputs * expansion, stride == 1
        self.conv = conv(inputs, inner)
        self.conv_dw = conv(inner, inner, 3, stride, 1, groups=inner)
        self.project = conv(inner, outputs, linear=True)

    def forward(self, x):
        y = self.project(self.conv_dw(self.conv(x)))
        return x + y if self.shortcut else y


def repeated(count, *sizes):
    return nn.Sequential(
        OrderedDict(model=nn.Sequential(*(Bottleneck(*sizes) for _ in range(count))))
    )


class Normalise(nn.Module):
    def forward(self, x):
        return nn.functional.normalize(x)


class MobileFaceNet(nn.Module):
    """Embeddings of images of 112 pixels."""

    def __init__(self, outputs):
        super().__init__()
        self.conv1 = conv(3, 64, 3, 2, 1)
        self.conv2_dw = conv(64, 64, 3, 1, 1, groups=64)
        self.conv_23 = Bottleneck(64, 2, 64, 2)
        self.conv_3 = repeated(4, 64, 2, 64)
        self.conv_34 = Bottleneck(64, 4, 128, 2)
        self.conv_4 = repeated(6, 128, 2, 128)
        self.conv_45 = Bottleneck(128, 4, 128, 2)
        self.conv_5 = repeated(2, 128, 2, 128)
        self.conv_6_sep = conv(128, 512)
        self.conv_6_dw = conv(512, 512, 7, groups=512, linear=True)
        self.flat = nn.Flatten()
        self.linear = nn.Linear(512, outputs, bias=False)
        self.bn = nn.BatchNorm1d(outputs)
        self.normalise = Normalise()

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x
