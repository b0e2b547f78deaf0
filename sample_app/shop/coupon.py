"""The coupons, and which products each one is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

COUPONS: tuple[Mapping[str, Any], ...] = (
    {"id": 1, "type": "RATE", "prodNos": [1, 2, 3], "value": 3},
    {"id": 2, "type": "PRICE", "prodNos": [2], "value": 1000},
)


async def coupons(request: Request) -> Response:
    """Answer the product's coupons, none for one that nobody knows."""
    no = request.path_params["no"]
    return JSONResponse([coupon for coupon in COUPONS if no in coupon["prodNos"]])


ROUTES = (Route("/products/{no:int}/coupons", coupons),)
