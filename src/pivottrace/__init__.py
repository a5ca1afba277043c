"""PivotTrace: label-efficient RLVR by tracing metacognitive pivots in attention."""

import os
import sys

__version__ = "0.1.0"


def _report_nothing() -> None:
    """Turn off what Hugging Face's libraries report: trainings, and counts of data sets.

    They read these variables when they are imported, which is usually after this module. For a
    program that imported them before, their modules are set too. A user's own setting stays.
    """
    for name, value, module, constant in (
        ("HF_HUB_DISABLE_TELEMETRY", "1", "huggingface_hub.constants", True),
        ("HF_UPDATE_DOWNLOAD_COUNTS", "0", "datasets.config", False),
    ):
        if name in os.environ:
            continue
        os.environ[name] = value
        if module in sys.modules:
            setattr(sys.modules[module], name, constant)


_report_nothing()
