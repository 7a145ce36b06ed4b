from typing import Literal

DownloadModelVariant = Literal["adapter", "merged"]

DOWNLOAD_MODEL_VARIANT_VALUES: set[DownloadModelVariant] = {
    "adapter",
    "merged",
}


def check_download_model_variant(value: str) -> DownloadModelVariant:
    if value in DOWNLOAD_MODEL_VARIANT_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {DOWNLOAD_MODEL_VARIANT_VALUES!r}")
