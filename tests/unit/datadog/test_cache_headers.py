"""etl.datadog.cache_headers: which headers say that a cache answered."""

import pytest

from etl.datadog.cache_headers import cache_header, part_header

CACHED = [
    ("Age", "0"),
    ("age", "86400"),
    ("Warning", '110 - "Response is Stale"'),
    ("Warning", '199 - "Misc", 111 - "Revalidation Failed"'),
    ("Warning", "112 cache"),
    ("X-Cache", "HIT"),
    ("X-Cache", "Hit from cloudfront"),
    ("X-Cache", "RefreshHit from cloudfront"),
    ("X-Cache", "MISS from a.example.com, HIT from b.example.com"),
    ("X-Cache", "TCP_MEM_HIT from a23-45.example.net"),
    ("X-Cache-Lookup", "HIT from proxy:3128"),
    ("X-Cache-Status", "STALE"),
    ("X-Cache-Status", "REVALIDATED"),
    ("X-Cache-Hits", "0, 1"),
    ("CF-Cache-Status", "UPDATING"),
    ("X-Proxy-Cache", "HIT"),
    ("X-Varnish-Cache", "HIT"),
    ("X-LiteSpeed-Cache", "hit,private"),
    ("X-Varnish", "32770 3"),
    ("X-From-Cache", "true"),
    ("X-Cached", "1"),
    ("X-Cache-Hit", "true"),
    ("X-Cache", "cached"),
    ("X-Rack-Cache", "fresh"),
    ("Server-Timing", "edge; dur=1, cdn-cache; desc=HIT"),
    ("Cache-Status", "ExampleCache; hit"),
    ("Cache-Status", "OriginCache; hit; ttl=1100, CDN; fwd=uri-miss"),
]
NOT_CACHED = [
    ("Cache-Control", "max-age=60, stale-while-revalidate=30"),
    ("CDN-Cache-Control", "stale-if-error=60"),
    ("X-Cache", "MISS from hit.example.com"),
    ("X-Cache", "TCP_MISS"),
    ("X-Cache", "HIT-FOR-PASS"),
    ("X-Cache", "Hit-For-Miss"),
    ("X-Cache", "Error from cloudfront"),
    ("X-Cache-Hits", "0"),
    ("X-Cache-Key", "/hit"),
    ("Surrogate-Cache-Tag", "hit"),
    ("CF-Cache-Status", "DYNAMIC"),
    ("CF-Cache-Status", "EXPIRED"),
    ("X-Varnish", "32770"),
    ("X-From-Cache", "0"),
    ("Cache-Status", "ExampleCache; fwd=stale; stored"),
    ("Cache-Status", "ExampleCache; hit=?0"),
    ("Warning", '214 proxy "Transformation Applied"'),
    ("X-Cached", "false"),
    ("X-Cache-Hit", "0"),
    ("X-Rack-Cache", "miss, store"),
    ("Server-Timing", "cdn-cache; desc=MISS, origin; dur=9"),
    ("Via", "1.1 varnish"),
    ("Date", "Sun, 29 Nov 2026 01:10:00 GMT"),
]


@pytest.mark.parametrize(("name", "value"), CACHED, ids=str)
def test_cache_says_that_it_answered(name: str, value: str) -> None:
    assert cache_header({"Date": "now", name: value}) == f"{name}: {value}"


@pytest.mark.parametrize(("name", "value"), NOT_CACHED, ids=str)
def test_other_headers_say_nothing(name: str, value: str) -> None:
    assert cache_header({name: value}) == ""


def test_part_of_an_answer_says_so() -> None:
    assert part_header({"content-range": "items 0-9/120"}) == "Content-Range: items 0-9/120"
    assert part_header({"Content-Length": "7", "Accept-Ranges": "bytes"}) == ""
    for name, value in (("Link", '</?page=2>; rel="next"'), ("X-Next-Page", "2")):
        assert part_header({name.lower(): value}) == f"{name}: {value}"
    assert part_header({"Link": '</?page=1>; rel="prev", </next>; rel=first'}) == ""
    assert part_header({"X-Next-Page": ""}) == ""
