"""Identifiers of products and passports: GTIN check digits, GS1 Digital Links, CAS numbers."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

__all__ = ["digital_link", "gtin14", "is_cas", "is_gtin"]

_GTIN = re.compile(r"[0-9]{8}|[0-9]{12,14}", re.ASCII)
_CAS = re.compile(r"([0-9]{2,7})-([0-9]{2})-([0-9])", re.ASCII)


def is_gtin(text: str) -> bool:
    """Whether a text is a GTIN of 8, 12, 13 or 14 digits with a right check digit (GS1, modulo 10)."""
    if not _GTIN.fullmatch(text):
        return False
    digits = [int(one) for one in reversed(text)]
    return (sum(digits[0::2]) + 3 * sum(digits[1::2])) % 10 == 0


def is_cas(text: str) -> bool:
    """Whether a text is a CAS registry number with a right check digit."""
    match = _CAS.fullmatch(text)
    if match is None:
        return False
    digits = reversed(match[1] + match[2])
    return sum(place * int(digit) for place, digit in enumerate(digits, start=1)) % 10 == int(match[3])


def gtin14(text: str) -> str:
    """Return the GTIN in fourteen digits, as Digital Links and the resolver have it."""
    return text.zfill(14)


def digital_link(host: str, product: Any) -> str | None:
    """Return the GS1 Digital Link of a product; None when its identifiers do not name its granularity.

    Args:
        host: of the resolver.
        product: fields `gtin`, `granularity`, `batchNumber`, `serialNumber`.
    """
    if product["gtin"] is None:
        return None
    link = f"https://{host}/01/{gtin14(product['gtin'])}"
    batch, serial = product["batchNumber"], product["serialNumber"]
    match product["granularity"]:
        case "model":
            return link
        case "batch" if batch is not None:
            return f"{link}/10/{quote(batch, safe='')}"
        case "item" if serial is not None:
            return f"{link}/21/{quote(serial, safe='')}"
    return None
