from typing import Literal

JobOutPhaseType0 = Literal["encoding", "evaluating", "features", "reference", "saving", "training"]

JOB_OUT_PHASE_TYPE_0_VALUES: set[JobOutPhaseType0] = {
    "encoding",
    "evaluating",
    "features",
    "reference",
    "saving",
    "training",
}


def check_job_out_phase_type_0(value: str) -> JobOutPhaseType0:
    if value in JOB_OUT_PHASE_TYPE_0_VALUES:
        return value
    raise TypeError(f"Unexpected value {value!r}. Expected one of {JOB_OUT_PHASE_TYPE_0_VALUES!r}")
