"""Layers that Flax lacks, or that are slow on some backend."""

from jaxnets.nn.attention import Attention, KVCache, dot_product_attention, rotary
from jaxnets.nn.conv import Conv, conv_general_dilated
from jaxnets.nn.dropout import dropout_layer
from jaxnets.nn.linear import Linear
from jaxnets.nn.pooling import avg_pool, max_pool
from jaxnets.nn.recurrent import ELMAN, GRU, LSTM, Cell, Recurrent
from jaxnets.nn.upsampling import ConvTranspose, conv_transpose, depth_to_space, space_to_depth, upsample

__all__ = [
    "ELMAN",
    "GRU",
    "LSTM",
    "Attention",
    "Cell",
    "Conv",
    "ConvTranspose",
    "KVCache",
    "Linear",
    "Recurrent",
    "avg_pool",
    "conv_general_dilated",
    "conv_transpose",
    "depth_to_space",
    "dot_product_attention",
    "dropout_layer",
    "max_pool",
    "rotary",
    "space_to_depth",
    "upsample",
]
