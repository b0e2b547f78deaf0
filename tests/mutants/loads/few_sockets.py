"""The load where it may open no more than a dozen connections."""

from __future__ import annotations

import resource

from zdtest.generator import _SPARE_FILES
from zdtest.load import ZeroDowntime as ZeroDowntime

resource.setrlimit(resource.RLIMIT_NOFILE, (_SPARE_FILES + 12, _SPARE_FILES + 12))
