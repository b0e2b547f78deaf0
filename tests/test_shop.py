"""The shop's three services, as their users, each other and the journal see them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from scripted import Peer, ScriptedServer
from test_sample_app import ROOT, App

from sample_app.settings import SettingsError
from sample_app.shop.settings import FrontSettings

BROKEN: dict[str, Callable[[Peer], None]] = {
    "closes": lambda peer: None,
    "resets": lambda peer: peer.reset() if peer.hear() else None,
    "breaks off": lambda peer: peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
    "fails": lambda peer: (
        peer.say(b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nsick") if peer.hear() else None
    ),
    "is no HTTP": lambda peer: peer.say(b"hello\r\n\r\n") if peer.hear() else None,
}


class Product(App):
    words = ("sample_app.shop", "product")


class Coupon(App):
    words = ("sample_app.shop", "coupon")


class Front(App):
    words = ("sample_app.shop", "front")

    def detail(self, no: int, **head: str) -> tuple[int, Any]:
        reply = self.ask(f"/product-detail/{no}", **head)
        return reply.status, json.loads(reply.body)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@contextmanager
def running(kind: type[App], journal: Path, **environment: str) -> Iterator[Any]:
    one = kind(journal, APP_INSTANCE=kind.words[1], **environment)
    try:
        yield one.ready()
    finally:
        one.end()


@contextmanager
def shop(journal: Path, **front: str) -> Iterator[tuple[Front, App, App]]:
    with ExitStack() as tidy:
        product = tidy.enter_context(running(Product, journal))
        coupon = tidy.enter_context(running(Coupon, journal))
        where = {"PRODUCT_URL": at(product.port), "COUPON_URL": at(coupon.port)}
        yield tidy.enter_context(running(Front, journal, **where, **front)), product, coupon


def at(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def test_a_page_joins_a_product_and_its_coupons(journal: Path) -> None:
    with shop(journal) as (front, _, _):
        status, told = front.detail(1)
        assert (status, list(told)) == (200, ["prod", "coupons"])
        assert told["prod"]["price"] == 123000
        assert told["coupons"] == [{"id": 1, "type": "RATE", "prodNos": [1, 2, 3], "value": 3}]
        assert front.detail(4)[1]["coupons"] == []
        assert front.detail(9) == (404, {"msg": "no such product"})
        assert front.ask("/health").body == b'{"status":"OK"}'
        assert front.order().status == 201


@pytest.mark.parametrize(("no", "price"), [(1, 119310), (2, 155200), (3, 1455000), (4, 50000)])
def test_version_two_tells_the_price_with_the_first_coupon(
    journal: Path, no: int, price: int
) -> None:
    with shop(journal, COUPON_PRICE="1") as (front, _, _):
        assert front.detail(no)[1]["couponPrice"] == price


def test_a_request_keeps_its_id_all_the_way(journal: Path) -> None:
    with shop(journal) as (front, _, _):
        front.detail(2, X_Request_ID="run-00000007")
        asked = front.told("request")
    assert {line["id"] for line in asked} == {"run-00000007"}
    assert [(line["instance"], line["path"]) for line in asked] == [
        ("front", "/product-detail/2"),
        ("product", "/products/2"),
        ("coupon", "/products/2/coupons"),
    ]


def test_connections_are_kept_and_one_that_was_closed_at_rest_is_not_used(journal: Path) -> None:
    served: list[int] = []

    def once(peer: Peer) -> None:
        served.append(peer.number)
        while peer.hear():
            peer.heard = b""
            peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
            if len(served) == 1 and peer.number == 0:
                served.append(-1)
                return

    with (
        running(Product, journal) as product,
        ScriptedServer(once) as coupons,
        running(Front, journal, PRODUCT_URL=at(product.port), COUPON_URL=at(coupons.port)) as front,
    ):
        for _ in range(4):
            assert front.detail(1)[0] == 200
            time.sleep(0.05)
    assert served == [0, -1, 1], "a second connection for all the rest"


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize(("failures", "answers"), [("swallowed", [404, 200]), ("told", [502, 502])])
def test_what_fails_behind_the_front_is_swallowed_or_told(
    journal: Path, how: str, failures: str, answers: list[int]
) -> None:
    with shop(journal) as (_, product, coupon), ScriptedServer(BROKEN[how]) as broken:
        for about, status in zip(
            (
                {"PRODUCT_URL": at(broken.port), "COUPON_URL": at(coupon.port)},
                {"PRODUCT_URL": at(product.port), "COUPON_URL": at(broken.port)},
            ),
            answers,
            strict=True,
        ):
            told = {**about, "FAILURES": failures, "COUPON_PRICE": "1"}
            with running(Front, journal, **told) as front:
                found, body = front.detail(1)
                assert found == status
                if status == 200:
                    assert (body["coupons"], body["couponPrice"]) == ([], 123000)


def test_a_product_that_is_not_there_is_told_from_one_that_cannot_be_asked(journal: Path) -> None:
    with shop(journal, FAILURES="told") as (front, product, _):
        assert front.detail(9)[0] == 404
        product.signal()
        product.exit()
        assert front.detail(9)[0] == 502


def test_a_call_is_made_again_once_where_no_reply_came(journal: Path) -> None:
    calls: list[int] = []

    def second(peer: Peer) -> None:
        if peer.hear():
            calls.append(peer.number)
            if peer.number % 2:
                peer.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]")

    with running(Product, journal) as product, ScriptedServer(second) as coupons:
        where = {"PRODUCT_URL": at(product.port), "COUPON_URL": at(coupons.port)}
        with running(Front, journal, **where, FAILURES="told", CALL_RETRIES="1") as front:
            assert [front.detail(1)[0] for _ in range(3)] == [200] * 3
    assert calls == list(range(6))


def test_a_call_may_take_so_long_or_for_ever(journal: Path) -> None:
    def never(peer: Peer) -> None:
        peer.hear()
        time.sleep(1.5)

    with running(Product, journal) as product, ScriptedServer(never) as coupons:
        where = {"PRODUCT_URL": at(product.port), "COUPON_URL": at(coupons.port)}
        limited = {"FAILURES": "told", "CALL_TIMEOUT": "200ms"}
        with (
            running(Front, journal, **where, **limited) as quick,
            running(Front, journal, **where) as patient,
            ThreadPoolExecutor(1) as pool,
        ):
            waiting = pool.submit(patient.ask, "/product-detail/1")
            reply = quick.ask("/product-detail/1")
            assert (reply.status, 0.2 <= reply.took < 1) == (502, True)
            assert waiting.result().took > 1.4


def test_health_is_503_while_draining_and_never_where_sigterm_is_ignored(journal: Path) -> None:
    drains = {"SHUTDOWN": "graceful", "DRAIN_SECONDS": "1s"}
    with running(Product, journal, **drains) as one:
        one.signal()
        one.until("draining")
        reply = one.ask("/health")
        assert (reply.status, reply.headers["Connection"]) == (503, "close")
        assert one.ask("/products/1").status == 200
        assert one.exit() == 0
    with running(Coupon, journal, IGNORE_SIGTERM="1") as one:
        one.signal()
        one.until("term", ignored=True)
        assert one.ask("/health").status == 200


def test_a_bad_release_of_any_service_is_bad(journal: Path) -> None:
    for kind, path in ((Product, "/products/1"), (Coupon, "/products/1/coupons")):
        with running(kind, journal, RELEASE="sick-at-once") as one:
            assert (one.ask("/health").status, one.ask(path).status) == (200, 500)
    with running(Product, journal, RELEASE="never-ready") as one:
        assert one.ask("/health").status == 503


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        ([], {}, "'': expected one of front, product, coupon"),
        (["back"], {}, "'back': expected one of front, product, coupon"),
        (["front", "product"], {}, "expected one of"),
        (["front"], {"PRODUCT_URL": "prod.api"}, "PRODUCT_URL 'prod.api': expected http://host:"),
        (["product"], {"PORT": "x"}, "PORT 'x': expected a whole number"),
    ],
)
def test_words_that_mean_nothing_are_one_line_and_exit_2(
    words: list[str], environment: dict[str, str], said: str
) -> None:
    argv = [sys.executable, "-m", "sample_app.shop", *words]
    found = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert said in found.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [("FAILURES", "hidden"), ("CALL_RETRIES", "10"), ("CALL_TIMEOUT", "soon"), ("COUPON_URL", "x")],
)
def test_a_setting_that_means_nothing_is_refused(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable} "):
        FrontSettings.of({variable: value})
