"""The browser of the tests waits for pages: who asks too early is not refuted, and nobody waits for ever."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest

from tests.browser import Browser, BrowserError, browser

__all__ = ["browser"]

# Begins without a body to speak of, and shows everything half a second later; each press makes a new button.
LATE = """<!doctype html><title>late</title><script>
function show() {
  document.body.innerHTML = '<input id="name" value=""><button>Press</button><p id="told"></p>';
  document.querySelector('button').addEventListener('click', press);
}
function press() {
  const told = 'pressed ' + document.querySelector('#name').value;
  setTimeout(() => { show(); document.querySelector('#told').textContent = told; }, 200);
}
document.documentElement.removeChild(document.body ?? document.head);
setTimeout(() => { document.documentElement.append(document.createElement('body')); show(); }, 500);
</script>"""


def test_a_page_that_is_not_there_yet_is_waited_for(browser: Browser) -> None:
    def late(milliseconds: int = 500) -> None:
        browser.go("data:text/html," + quote(LATE.replace("500", str(milliseconds))))

    late(3_600_000)
    assert browser.text == "", "there is nothing to be seen, which is no error"
    late()
    assert browser.wait("return document.querySelector('button').textContent") == "Press"
    late()
    assert browser.value("#name") == "", "an empty field is one"
    late()
    browser.type("#name", "ada")
    browser.click("button")
    browser.wait("return document.querySelector('#told').textContent === 'pressed ada'")
    for _ in range(5):
        browser.click("button")  # which is replaced meanwhile
    late()
    with pytest.raises(BrowserError, match="Cannot read properties of null"):
        browser.run("return document.querySelector('#never').value")
    begun = time.monotonic()
    with pytest.raises(AssertionError, match=r"not within 0\.2 s; at last: .*Cannot read properties of null"):
        browser.wait("return document.querySelector('#never').value", seconds=0.2)
    assert time.monotonic() - begun < 30
