"""The field types of the manifest: one small class per type, one file per class.

A type knows its column, how a JSON value becomes a Python value and back, which filter
operators it understands, and how it looks in OpenAPI. Everything that depends on a field's
type asks its FieldType; nothing else branches on type names.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from byodpp.fields.array import ArrayType
from byodpp.fields.bigint import BigintType
from byodpp.fields.boolean import BooleanType
from byodpp.fields.date import DateType
from byodpp.fields.datetime import DatetimeType
from byodpp.fields.decimal import DecimalType
from byodpp.fields.encrypted import EncryptedType
from byodpp.fields.field_type import EQUALITY, MEMBERS, ORDER, TEXT, FieldFault, FieldType
from byodpp.fields.float import FloatType
from byodpp.fields.integer import IntegerType
from byodpp.fields.json import JsonType
from byodpp.fields.object import ObjectType
from byodpp.fields.string import StringType
from byodpp.fields.text import TextType
from byodpp.fields.time import TimeType
from byodpp.fields.ulid import UlidType
from byodpp.fields.uuid import UuidType

__all__ = ["EQUALITY", "FIELD_TYPES", "MEMBERS", "ORDER", "TEXT", "EncryptedType", "FieldFault", "FieldType"]

#: Every type word of the manifest, in the order in which documentation lists them.
FIELD_TYPES: Final[Mapping[str, FieldType]] = MappingProxyType(
    {
        field_type.name: field_type
        for field_type in (
            StringType(),
            TextType(),
            IntegerType(),
            BigintType(),
            DecimalType(),
            FloatType(),
            BooleanType(),
            DateType(),
            TimeType(),
            DatetimeType(),
            UuidType(),
            UlidType(),
            JsonType(),
            ObjectType(),
            ArrayType(),
        )
    }
)
