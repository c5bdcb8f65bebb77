"""Registry hives: cells, keys and values, read by page."""

from imagetool.registry.hive import Hive
from imagetool.registry.keys import Key
from imagetool.registry.values import Value, ValueType

__all__ = ["Hive", "Key", "Value", "ValueType"]
