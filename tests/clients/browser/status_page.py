"""Looks at the status page as a person would, in a browser. Fails at the first thing that is wrong.

Arguments: the browser, the page's address, a secret that must be nowhere, a channel that is flooded, a
bot whose token is refused, and perhaps a folder for pictures. What is to happen to weir is asked for by a
line on standard output, and has happened when a line comes back.
"""

import re
import sys
import time

from playwright.sync_api import sync_playwright

BROWSER, URL, SECRET, CHANNEL, REFUSED = sys.argv[1:6]
PICTURES = sys.argv[6] if len(sys.argv) > 6 else None
# A slow machine is given time; what is promised is not.
SOON_S = 30


def happen(what):
    print("do " + what, flush=True)
    assert sys.stdin.readline().strip() == "done"


def said(what):
    print(what, flush=True)
    sys.stdin.readline()


def until(what, holds):
    end = time.monotonic() + SOON_S
    while not (value := holds()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return value


# Of all text that is shown: the contrast to what lies behind it (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const parse = (color) => { const n = color.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) { const c = parse(getComputedStyle(node).backgroundColor); if (c[3] === 1) return c; }
    return [255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || ["SCRIPT", "NOSCRIPT"].includes(node.tagName) || !node.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    const contrast = (a + .05) / (b + .05);
    if (contrast < 4.5) found.push(contrast.toFixed(2) + " " + walk.currentNode.textContent.trim());
  }
  return found;
}"""


# How many values a node shows within a second.
VALUES = """(node) => new Promise((done) => {
  const seen = new Set();
  let looks = 0;
  const looking = setInterval(() => {
    seen.add(node.innerText);
    if (++looks === 20) { clearInterval(looking); done(seen.size); }
  }, 50);
})"""


def main():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
        page = context.new_page()
        complaints, asked, loaded = [], [], []
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.on("load", lambda _: loaded.append(1))
        page.goto(URL)

        text = lambda selector: page.locator(selector).inner_text()
        number = lambda selector: float(re.sub(r"[^\d.]", "", text(selector)) or 0)

        # It answers the first question first, and goes on by itself.
        until("it serves", lambda: text("#verdict").startswith("Serving"))
        until("requests are counted", lambda: number("#rate") > 1)
        total = lambda: number("#outcomes tbody tr:first-child td:last-child")
        before = until("answers are counted", total)
        until("numbers move", lambda: total() > before)
        assert len(loaded) == 1, "it was loaded again"
        until("a line is drawn", lambda: "L" in (page.locator("#rate-line path.stroke").get_attribute("d") or ""))
        said("numbers move")

        # A problem stands first, in words, and names whose it is.
        item = until("the refused token is told", lambda: page.locator("#attention li.problem").first).inner_text()
        assert "Problem" in item and REFUSED in item, item
        assert REFUSED in text("#locks"), text("#locks")
        said("a refused token is told")

        # Who waits, for what, until when.
        happen("flood")
        row = page.locator("#blocked tbody tr", has_text=CHANNEL)
        until("the flooded channel waits", row.count)
        assert "POST /channels/!/messages" in row.inner_text(), row.inner_text()
        # Between two reads, of which there is one a second, it runs by itself.
        until("the countdown runs", lambda: row.count() and row.locator("td").nth(4).evaluate(VALUES) >= 5)
        said("a blocked bucket counts down")

        # What weir does beside appears when there is some of it, and only then.
        assert page.locator("#cluster-section").is_hidden()
        happen("beside")
        until("the forward proxy's caps", lambda: "3/3" in text("#forward"))
        until("the identify queue", lambda: "waiting" in text("#identify-count"))

        # Every size, either light.
        colours = {}
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            colours[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
            faint = page.evaluate(CONTRAST)
            assert not faint, (scheme, faint)
            for width in (320, 375, 768, 1280, 1920):
                page.set_viewport_size({"width": width, "height": 900})
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, (width, wide)
        assert colours["light"] != colours["dark"], colours
        page.set_viewport_size({"width": 1280, "height": 900})
        said("it fits and can be read")

        # What a reader that sees nothing is told.
        for landmark in ("header", "main", "footer"):
            assert page.locator("body > " + landmark).count() == 1, landmark
        assert page.locator("th:not([scope])").count() == 0
        assert page.locator("section:not([aria-label]):not([aria-labelledby])").count() == 0
        assert page.locator("html[lang=en]").count() == 1
        assert page.get_by_role("meter").count() == 1

        # No secret, whatever is in it; nothing from anywhere else.
        assert SECRET not in page.content() and SECRET not in page.evaluate("document.body.innerText")
        elsewhere = [url for url in asked if not url.startswith(URL) and not url.startswith("data:")]
        assert not elsewhere, elsewhere
        assert {url.removeprefix(URL) for url in asked if url.startswith(URL)} == {"", "nirn/status.json"}
        assert not complaints, complaints
        said("it keeps to itself")

        if PICTURES:
            take_pictures(page)

        # Markup in what weir tells stays text.
        page.route("**/nirn/status.json", with_markup)
        until("the odd route is shown", lambda: "<img" in text("#blocked tbody"))
        assert page.locator("#blocked img").count() == 0
        page.unroute("**/nirn/status.json")

        happen("stop")
        until("it says so", lambda: text("#verdict").startswith("weir does not answer"))
        until("how long ago", lambda: re.search(r"Last heard [2-9]\ss ago", text("#verdict")))
        assert "does not answer" in page.title(), page.title()
        browser.close()
        said("all is as it should be")


def with_markup(route):
    answer = route.fetch()
    document = answer.json()
    bucket = {"method": "GET", "route": "/<img src=x onerror=alert(1)>", "major": "", "major_id": None,
              "kind": "bot", "user_id": "1", "requests": 0, "waiting": 1, "under_way": 0, "limit": 1,
              "remaining": 0, "opens_in_ms": 900, "last_in_ms": 900, "paused": False, "returns": "at_once"}
    document["buckets"]["blocked"] = [bucket]
    route.fulfill(response=answer, json=document)


def take_pictures(page):
    # The lines are full by then.
    time.sleep(50)
    happen("flood more")
    time.sleep(3)
    for scheme, width, name in (("light", 1280, "light"), ("dark", 1280, "dark"), ("dark", 375, "phone")):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        time.sleep(1.2)
        page.screenshot(path=f"{PICTURES}/status-{name}.png", full_page=True)


main()
