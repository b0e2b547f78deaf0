"""Headers of one's own: on every request of every channel, and their values nowhere else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from gated_server import SECRET
from own_stack import LENIENT, QUICK, ended, serving, start, until, zdtest

from zdtest.errors import ConfigError
from zdtest.sending.headers import checked, merged, parse
from zdtest.traffic import Load

GATED = "from gated_server import GatedServer as it; it({{port}}, {heads!r}).serve(0)"
CHANNELS = "new=3,reused=3,idle=2,slow=1@/300~300ms,write+key=2@/orders,stream=2@/events~200ms"
LOGIN = f"Authorization: Bearer {SECRET}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("secret", "--header: expected 'Name: value', with a colon between the two"),
        ("Content-Length: 3", "--header Content-Length: expected none about the connection"),
        ("transfer-encoding: secret", "--header transfer-encoding: expected none about"),
        ("Connection: secret", "--header Connection: expected none about"),
        ("X-Request-ID: secret", "--header X-Request-ID: zdtest's own"),
        ("idempotency-key: secret", "--header idempotency-key: zdtest's own"),
        ("Last-Event-ID: secret", "--header Last-Event-ID: zdtest's own"),
        ("X-A: secret\r\nX-B: 1", "--header X-A: expected a value of one line, in Latin-1"),
        ("X-A: secret\nX-B: 1", "--header X-A: expected a value of one line"),
        ("X-A: secret \u20ac", "--header X-A: expected a value of one line, in Latin-1"),
        ("X-A:", "--header X-A: expected a value"),
        ("X A: secret", "--header 'X A': expected a header's name, such as X-App-Version"),
        (": secret", "--header '': expected a header's name"),
        ("X\u00e4: secret", "--header 'X\u00e4': expected a header's name"),
    ],
)
def test_what_cannot_be_sent_is_refused_without_its_value(line, said):
    with pytest.raises(ConfigError) as raised:
        parse([line])
    assert str(raised.value).startswith(said)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_header_is_given_once():
    with pytest.raises(ConfigError, match="header x-a is given twice; expected each once"):
        checked([("X-A", "1"), ("x-a", "2")])


def test_a_header_takes_the_place_of_ours_whatever_its_case():
    assert merged({"Host": "h", "Accept": "*/*"}, {"host": "other"}) == {
        "Accept": "*/*",
        "host": "other",
    }


def test_a_load_tells_the_names_alone():
    load = Load(headers={"Authorization": "Bearer secret"})
    assert load.as_dict()["headers"] == {"Authorization": "…"}
    assert "secret" not in repr(load)
    assert not any("secret" in word for word in load.argv("http://h/"))


def test_a_load_refuses_what_cannot_be_sent():
    with pytest.raises(ConfigError, match="header Content-Length: expected none"):
        Load(headers={"Content-Length": "1"})


def listed() -> list[str]:
    """Return the command lines of all processes, as anybody may list them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:  # it has ended meanwhile
            continue
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_they_are_on_every_request_and_their_values_nowhere_else(tmp_path, workers):
    folder, heads = tmp_path / "run", tmp_path / "heads"
    with serving(GATED.format(heads=str(heads))) as url:
        words = ["during", "--url", url, *QUICK, "--slo", LENIENT, "--out", folder]
        words += ["--channels", CHANNELS, "--workers", workers, "--duration", "2s"]
        words += ["--header", "Host: shop.example", "--header", "X-Tenant: b\u00fccher"]
        process = start(*words, cwd=tmp_path, env={"ZD_HEADER": LOGIN})
        until(lambda: heads.exists() and b"/orders" in heads.read_bytes(), seconds=60)
        shown = [one for one in listed() if SECRET in one]
        code, out, err = ended(process, folder)
    assert (code, err) == (0, ""), out
    assert shown == []
    requests = [one + b"\r\n" for one in heads.read_bytes().split(b"\r\n\r\n") if one]
    assert len(requests) > 300
    for one in requests:
        assert one.count(b"Authorization: Bearer " + SECRET.encode()) == 1, one
        assert one.count(b"\r\nHost: shop.example\r\n") == 1, one
        assert one.lower().count(b"\r\nhost:") == 1, one
        assert one.count("\r\nX-Tenant: b\u00fccher\r\n".encode("latin-1")) == 1, one
    for kind in (b"GET / ", b"GET /300 ", b"POST /orders ", b"GET /events "):
        assert any(kind in one for one in requests), kind
    kept = [path for path in folder.rglob("*") if path.is_file()]
    assert len(kept) > 5
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []
    told = json.loads((folder / "manifest.json").read_text())["headers"]
    assert told == {"Authorization": "…", "Host": "…", "X-Tenant": "…"}
    verdict = json.loads((folder / "verdict.json").read_text())
    assert (verdict["failed"], verdict["verdict"]) == (0, "holds")


def test_without_them_the_page_is_refused_before_any_load(tmp_path):
    with serving(GATED.format(heads=str(tmp_path / "heads"))) as url:
        told = zdtest("during", "--url", url, "--duration", "1s", cwd=tmp_path)
    assert told.returncode == 2
    assert re.fullmatch(r"zdtest: .* answers 401 to GET /: expected 200.*\n", told.stderr)
