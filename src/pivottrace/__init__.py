"""PivotTrace: label-efficient RLVR by tracing metacognitive pivots in attention."""

import os
import sys

__version__ = "0.1.0"

# Hugging Face's libraries report each training, and each request to the Hub, unless this is set.
# They read it when they are first imported. That is after this file, unless the program that uses
# the package has imported them before.
if "HF_HUB_DISABLE_TELEMETRY" not in os.environ:
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if (_constants := sys.modules.get("huggingface_hub.constants")) is not None:
        _constants.__dict__["HF_HUB_DISABLE_TELEMETRY"] = True
