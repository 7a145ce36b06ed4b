from typing import Literal

EstimateOutBasis = Literal["measured", "rule"]

ESTIMATE_OUT_BASIS_VALUES: set[EstimateOutBasis] = {
    "measured",
    "rule",
}


def check_estimate_out_basis(value: str) -> EstimateOutBasis:
    if value in ESTIMATE_OUT_BASIS_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {ESTIMATE_OUT_BASIS_VALUES!r}")
