"""The site in a browser without a network: search, widths, and contrast."""

import pytest
from axe_playwright_python.sync_playwright import Axe

import modelkit as mk

pytestmark = pytest.mark.timeout(600)  # the first test builds the site

WIDTHS = {"desk": 1366, "phone": 390}
PAGES = {
    "landing": "index",
    "tutorial": "start/tutorial",
    "how-to": "howto/serve/command",
    "class": "reference/api/serving",
    "commands": "reference/cli",
    "notebook": "gallery/flights",
    "table": "reference/what_converts",
    "search": "search",
}


@pytest.fixture(scope="module")
def searched(site, browser):
    """What the search page, opened from the disk, finds for words: the links, in order."""
    page = browser.new_context(offline=True).new_page()
    page.set_default_timeout(300_000)  # milliseconds

    def search(words):
        page.goto(f"{(site / 'search.html').as_uri()}?q={words}")
        page.wait_for_function(
            "document.querySelector('.search-summary')?.textContent.match(/found|did not/)"
        )
        return page.eval_on_selector_all("ul.search li a", "links => links.map(link => link.href)")

    return search


def test_words_are_found(searched):
    assert len(searched("false alarm")) >= 10


def test_every_exported_name_is_found(searched):
    assert [name for name in mk.__all__ if name != "__version__" and not searched(name)] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window_and_can_be_read(name, width, scheme, site, browser):
    size = {"width": WIDTHS[width], "height": 850}
    with browser.new_context(viewport=size, color_scheme=scheme, offline=True) as context:
        page = context.new_page()
        page.set_default_timeout(300_000)
        page.goto((site / f"{PAGES[name]}.html").as_uri())
        code = ", .bd-article pre" if width == "desk" else ""  # a phone moves code sideways
        wider = "all => all.filter(each => each.scrollWidth > each.clientWidth).map(each => each.innerText)"
        assert page.eval_on_selector_all(f"html, .bd-article-container{code}", wider) == []
        found = Axe().run(page, options={"runOnly": ["color-contrast"]})
        assert found.violations_count == 0, found.generate_report()
