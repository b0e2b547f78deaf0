"""The load where it may open no more than a dozen connections."""

from __future__ import annotations

import resource

from plain import main

from zdtest.sending.generator import _SPARE_FILES

resource.setrlimit(resource.RLIMIT_NOFILE, (_SPARE_FILES + 12, _SPARE_FILES + 12))
main()
