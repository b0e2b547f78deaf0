"""What the environment says about the front beyond what it says about every instance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from sample_app.settings import Environment, SettingsError

Failures = Literal["swallowed", "told"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontSettings:
    """How the front asks the services behind it. Durations are seconds."""

    product: str
    """Where the products are, such as ``http://prod.api:3001``."""
    coupon: str
    coupon_price: bool
    """Whether it tells the price that the first coupon makes, as version 2 does."""
    failures: Failures
    """What it makes of a service that fails: nothing that anybody notices, or an error."""
    timeout: float
    """The longest that one call may take, 0 for as long as it likes."""
    retries: int
    """How often it asks again, somebody else, where a call brought no reply."""
    idle: float
    """How long a connection at rest is kept for the next call."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> FrontSettings:
        """Return the settings; raises SettingsError naming the first variable that is wrong."""
        read = Environment(environ)
        return cls(
            product=_url("PRODUCT_URL", read.text("PRODUCT_URL", "http://prod.api:3001")),
            coupon=_url("COUPON_URL", read.text("COUPON_URL", "http://coupon.api:3002")),
            coupon_price=read.switch("COUPON_PRICE"),
            failures=cast(Failures, read.one_of("FAILURES", ("swallowed", "told"))),
            timeout=read.seconds("CALL_TIMEOUT", "0"),
            retries=read.whole("CALL_RETRIES", 0, 0, 9),
            idle=read.seconds("CALL_IDLE", "5"),
        )


def _url(variable: str, given: str) -> str:
    if re.fullmatch(r"http://[A-Za-z0-9._-]+:[0-9]{1,5}", given):
        return given
    raise SettingsError(f"{variable} {given!r}: expected http://host:port")
