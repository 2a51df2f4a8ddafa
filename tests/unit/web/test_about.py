"""The status page: cards, no script, and requests that are answered."""

import json
import re

from helpers.apps import PREDICT, summed
from helpers.client import Client

import modelkit as mk


def test_the_status_page_has_cards_and_no_script():
    with Client(mk.App({"<b>&": summed()})) as client:
        answer = client.get("/")
    page = answer.body.decode()
    policy = answer.headers["content-security-policy"]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "<script" not in page
    assert "&lt;b&gt;&amp;" in page
    assert "<b>&" not in page
    assert not re.search(r"\b(?:src|href|on\w+)=", page)
    assert ">ready<" in page


def test_the_page_shows_a_request_that_is_answered():
    with Client(mk.App({"sum": summed()})) as client:
        page = client.get("/").body.decode()
        assert "openapi.json describes what" in page
        line = next(part for part in page.split("<pre") if "POST models/sum/predict" in part)
        body = line.partition("\n")[2].partition("</pre>")[0].replace("&quot;", '"')
        assert client.post(PREDICT, json=json.loads(body)).status == 200
