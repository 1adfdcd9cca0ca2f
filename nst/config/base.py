"""The base classes of the schemas, and the types of their numbers and texts."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")]
Text = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """Frozen base model that forbids unknown keys and converts no other types to numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=True)


class Node(Strict):
    """A node that Hydra instantiates as a partial."""

    target: str = Field(alias="_target_")
    partial: Literal[True] = Field(alias="_partial_")
