"""Layers: shapes, parameters, and what backward needs. base.py says what a layer is; reference/ has the arithmetic."""

from scratchnet.layers.activations import LeakyReLU, ReLU, Sigmoid, Softplus, Tanh
from scratchnet.layers.base import Layer
from scratchnet.layers.conv import Conv2d
from scratchnet.layers.dense import Dense
from scratchnet.layers.dropout import Dropout
from scratchnet.layers.norm import BatchNorm1d, BatchNorm2d
from scratchnet.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from scratchnet.layers.reshape import Flatten
from scratchnet.layers.residual import Residual
