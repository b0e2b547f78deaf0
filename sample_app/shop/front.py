"""The front: all that the sample app does, and the page that joins a product and its coupons."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sample_app.app import Endpoints
from sample_app.journal import Journal
from sample_app.readiness import Readiness
from sample_app.settings import Settings
from sample_app.shop.calls import Answer, CallFailed, Calls
from sample_app.shop.settings import FrontSettings
from sample_app.wrong_orders import orders


class Front:
    """The product's page. A failure behind it is the caller's, or nobody's: FAILURES says which."""

    def __init__(self, settings: FrontSettings) -> None:
        self._settings = settings
        self._products, self._coupons = (
            Calls(url, timeout=settings.timeout, retries=settings.retries, idle=settings.idle)
            for url in (settings.product, settings.coupon)
        )

    async def detail(self, request: Request) -> Response:
        """Answer the product with its coupons, and with what it costs then where it tells so."""
        no, id = request.path_params["no"], request.headers.get("x-request-id", "")
        swallows = self._settings.failures == "swallowed"
        product = await self._ask(self._products, f"/products/{no}", id)
        if product.status != 200:
            unknown = swallows or product.status == 404
            return JSONResponse({"msg": "no such product"}, 404) if unknown else _bad_gateway()
        coupons = await self._ask(self._coupons, f"/products/{no}/coupons", id)
        if coupons.status != 200 and not swallows:
            return _bad_gateway()
        found = coupons.body if coupons.status == 200 else []
        told = {"prod": product.body, "coupons": found}
        if self._settings.coupon_price:
            told["couponPrice"] = price(product.body["price"], found)
        return JSONResponse(told)

    @staticmethod
    async def _ask(service: Calls, path: str, id: str) -> Answer:
        """Return what the service answered, 503 where it did not."""
        try:
            return await service.get(path, id)
        except CallFailed as error:
            print(f"## ERROR {error}", flush=True)
            return Answer(503, None)


def _bad_gateway() -> Response:
    return JSONResponse({"msg": "a service behind this one fails"}, 502)


def price(whole: int, coupons: list[dict[str, Any]]) -> int:
    """Return what is to be paid with the first coupon, the whole price without one."""
    for coupon in coupons[:1]:
        if coupon["type"] == "RATE":
            return whole * (100 - int(coupon["value"])) // 100
        return whole - int(coupon["value"])
    return whole


def routes(
    settings: Settings, journal: Journal, readiness: Readiness, front: FrontSettings
) -> list[Route]:
    """Return the page's route, and those of the sample app."""
    kept = orders(settings.release, journal, instance=settings.instance, version=settings.version)
    own = Route("/product-detail/{no:int}", Front(front).detail)
    return [own, *Endpoints(settings, readiness, kept).routes()]
