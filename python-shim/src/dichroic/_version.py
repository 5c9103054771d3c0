"""The version of this package, which is that of the collector it is released with."""

VERSION = "0.1.0"
