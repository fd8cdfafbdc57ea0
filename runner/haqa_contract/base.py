"""What every message between the control plane and the runner has in common."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

CONTRACT_VERSION: Final = 1


Scalar = bool | int | float | str


class Contract(BaseModel):
    """Base of everything that crosses the border: unknown fields are errors, values do not change.

    Fields answer to their camelCase names too, since some of these models are parts of the resources.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        ser_json_inf_nan="constants",
        alias_generator=to_camel,
        populate_by_name=True,
    )
