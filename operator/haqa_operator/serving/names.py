"""Names that Kubernetes accepts, made from names that people gave."""

from __future__ import annotations

import hashlib
import re

_LONGEST_LABEL = 63
_HASH_LENGTH = 8


def dns_label(*parts: str, longest: int = _LONGEST_LABEL) -> str:
    """The parts joined by dashes as a DNS label that starts with a letter (RFC 1035, as Services want it).

    Equal parts give the same name. Where characters had to go or the name is cut, a hash of the original keeps two
    different names different.

    Args:
        longest: Characters that the name may have.
    """
    wanted = "-".join(parts)
    label = re.sub(r"[^a-z0-9]+", "-", wanted.lower()).strip("-")
    if not label or not label[0].isalpha():
        label = f"haqa-{label}".rstrip("-")
    faithful = label in (wanted, f"haqa-{wanted}")
    if faithful and len(label) <= longest:
        return label
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_HASH_LENGTH]
    return f"{label[: longest - _HASH_LENGTH - 1].rstrip('-')}-{digest}"


def label_value(text: str) -> str:
    """The text as a label's value: at most 63 letters, digits, `-`, `_` and `.`, alphanumeric at both ends."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:_LONGEST_LABEL].strip("-_.")
