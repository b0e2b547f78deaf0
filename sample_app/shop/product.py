"""The products, and what each one costs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

PRODUCTS = {
    1: {"name": "17 inch monitor", "category": "accessories", "price": 123_000},
    2: {"name": "19 inch monitor", "category": "accessories", "price": 160_000},
    3: {"name": "15 inch laptop", "category": "laptops", "price": 1_500_000},
    4: {"name": "router", "category": "accessories", "price": 50_000},
}


async def product(request: Request) -> Response:
    """Answer the product, or 404."""
    found = PRODUCTS.get(request.path_params["no"])
    if found is None:
        return JSONResponse({"msg": "no such product"}, 404)
    return JSONResponse(found)


ROUTES = (Route("/products/{no:int}", product),)
