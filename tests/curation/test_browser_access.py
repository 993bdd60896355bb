"""The page for everybody and for long: keyboard and screen reader, contrast, small screens, memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .browser import Proxy, Served, Watched, build, chromium, free_port, watched

# The colour of every element's text against what lies behind it, as WCAG 2.2 computes it (1.4.3), and the
# border of every control against the page (1.4.11). Colours are read back from a canvas pixel.
CONTRAST = """() => {
  const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1); context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [x, y, z] = [r, g, b].map((v) => linear(v / 255));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgba('white');
  };
  const left = '.unseen, .jump, :disabled';
  const seen = (e) => e.checkVisibility() && e.getClientRects().length && !e.closest(left);
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!seen(e)) continue;
    const style = getComputedStyle(e);
    const name = `${e.tagName}.${e.className} ${e.textContent.trim().slice(0, 20)}`;
    if (text) found.push([name, ratio(rgba(style.color), behind(e)), 4.5]);
    if (e.matches('input[type=text], input[type=search], .reason, .verdict, .choice'))
      found.push([`border of ${name}`, ratio(rgba(style.borderTopColor), behind(e.parentElement)), 3]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place = tmp_path_factory.mktemp("many") / "set"
    with Served(build("emoji-pairs", place, relation="cross_domain", count=360)) as server:
        yield server


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_controls_stand_out(browser: Any, served: Served, scheme: str) -> None:
    with watched(browser, served, f"contrast-{scheme}", color_scheme=scheme) as one:
        one.press("e w f")
        found = one.page.evaluate(CONTRAST)
        one.page.keyboard.press("q")
        found += one.page.evaluate(CONTRAST)
        one.page.keyboard.press("Escape")
        one.page.keyboard.press("?")
        found += one.page.evaluate(CONTRAST)
        assert len(found) > 150
        assert [(name, round(ratio, 2)) for name, ratio, least in found if ratio < least] == []
        ink = one.page.evaluate("getComputedStyle(document.body).color")
        one.page.keyboard.press("Escape")
        one.page.keyboard.press("g")
        if scheme == "light":
            one.page.keyboard.press("g")
        assert (
            one.page.evaluate("getComputedStyle(document.body).color") != ink
        )  # the switch outweighs the system


def test_every_control_has_a_name_and_every_picture_a_text(browser: Any, served: Served) -> None:
    with watched(browser, served, "names") as one:
        for opener, least in (("", 15), ("q", 10), ("?", 3)):
            if opener:
                one.page.keyboard.press(opener)
            tree = one.context.new_cdp_session(one.page).send("Accessibility.getFullAXTree")["nodes"]
            nodes = [
                (n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if not n["ignored"]
            ]
            roles = (
                "button",
                "textbox",
                "searchbox",
                "checkbox",
                "link",
                "dialog",
                "image",
                "progressbar",
                "figure",
                "group",
                "complementary",
                "main",
            )
            controls = [(role, name) for role, name in nodes if role in roles]
            assert [role for role, name in controls if not name.strip()] == []
            assert len(controls) >= least
            if not opener:
                assert {"banner", "main", "complementary"} <= {role for role, _ in nodes}
                images = [name for role, name in controls if role == "image"]
                assert [name[:10] for name in images] == ["Picture A:", "Picture B:"] and "," in images[0]
            one.page.keyboard.press("Escape")
        ids = one.page.eval_on_selector_all("[id]", "(all) => all.map((e) => e.id)")
        assert len(ids) == len(set(ids))
        assert one.page.evaluate("document.documentElement.lang") == "en"


def test_the_keyboard_reaches_everything_visibly_and_is_never_trapped(browser: Any, served: Served) -> None:
    with watched(browser, served, "tabs") as one:
        order = []
        for _ in range(80):
            one.page.keyboard.press("Tab")
            at = one.page.evaluate(
                """() => { const e = document.activeElement, s = getComputedStyle(e); return [
                e.id || e.dataset.verdict || e.className || e.tagName, e !== document.body,
                s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2,
                e.getBoundingClientRect().top >= 0]; }"""
            )
            if at[1]:
                assert at[2] and at[3], at
            if order and at[0] == order[0]:
                break
            order.append(at[0])
        else:
            pytest.fail("tabbing does not come round")
        wanted = ["jump", "open-queues", "who", "panel-switch", "theme", "open-help"]
        wanted += ["flicker", "smaller", "fit", "larger", "background", "labels", "evidence"]
        wanted += ["yes", "no", "unsure"]
        order = order[order.index("jump") :] + order[: order.index("jump")]  # the page starts at the pair
        assert [name for name in order if name in wanted] == wanted
        assert {"note", "undo", "skip"} <= set(order)
        # By keyboard alone: a verdict with Enter on its button, which keeps the focus.
        one.page.focus("button.verdict.no")
        one.press("Enter Enter")
        assert one.page.evaluate("document.activeElement.dataset.verdict") == "no"
        # A click gives the focus back, so that Space does not judge again.
        one.page.click("button.verdict.yes")
        one.press("Space")
        one.page.focus("#note")
        one.page.keyboard.press("Escape")
        assert one.page.evaluate("document.activeElement.id") == "judge"
        one.saved()
        assert [verdict for _, verdict in served.said("tabs")] == ["no", "no", "yes"]


def test_single_keys_can_be_turned_off_and_a_held_key_judges_once(browser: Any, served: Served) -> None:
    with watched(browser, served, "held") as one:
        one.page.keyboard.down("y")
        for _ in range(5):
            one.page.keyboard.down("y")  # repeats
        one.page.keyboard.up("y")
        one.press("?")
        one.page.click("#keys-on")
        one.page.keyboard.press("Escape")
        one.press("n n")
        one.saved()
        assert served.said("held") == [("verdict", "yes")]


def test_flicker_alternates_and_with_reduced_motion_only_by_hand(browser: Any, served: Served) -> None:
    front = "document.getElementById('stage').dataset.front"
    count = """() => new Promise((done) => { let n = 0; const stage = document.getElementById('stage');
      new MutationObserver((all) => { n += all.length; }).observe(stage, { attributeFilter: ['data-front'] });
      setTimeout(() => done(n), 1100); })"""
    with watched(browser, served, "flicker") as one:
        one.press("f")
        assert 2 <= one.page.evaluate(count) <= 5  # four changes a second show each picture twice
        boxes = one.page.eval_on_selector_all(
            ".frame", "(all) => all.map((f) => JSON.stringify(f.getBoundingClientRect()))"
        )
        assert boxes[0] == boxes[1]
        one.press("Space")
        assert one.page.evaluate(count) == 0
        one.press("f")
        assert one.page.is_hidden("#pause")
    with watched(browser, served, "calm", reduced_motion="reduce") as one:
        one.press("f")
        before = one.page.evaluate(front)
        assert one.page.evaluate(count) == 0
        one.press("Space")
        assert one.page.evaluate(front) != before


def test_zoom_and_background_keep_pixels_sharp_and_both_pictures_together(
    browser: Any, served: Served
) -> None:
    with watched(browser, served, "zoom") as one:
        assert (
            one.page.eval_on_selector_all(
                ".frame img", "(all) => all.map((i) => getComputedStyle(i).imageRendering)"
            )
            == ["pixelated"] * 2
        )
        one.press("+ + ArrowRight")
        moved = one.page.eval_on_selector_all(".frame img", "(all) => all.map((i) => i.style.transform)")
        assert moved[0] == moved[1] == "translate(-40px, 0px) scale(2)"
        one.press("0")
        assert one.text("#fit") == "100 %"
        one.page.hover(".frame")
        one.page.mouse.wheel(0, -100)
        one.until("document.getElementById('fit').textContent === '150 %'")
        backs = []
        for _ in range(3):
            one.press("b")
            backs.append(one.page.get_attribute("#stage", "data-back"))
        assert backs == ["white", "dark", "checker"]


@pytest.mark.parametrize(
    ("width", "height", "touch"), [(420, 860, True), (640, 400, False), (320, 640, True)]
)
def test_small_screens_and_200_percent_need_no_sideways_scrolling(
    browser: Any, served: Served, width: int, height: int, touch: bool
) -> None:
    size = {"viewport": {"width": width, "height": height}, "has_touch": touch, "is_mobile": touch}
    with watched(browser, served, f"small-{width}", **size) as one:
        assert one.page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = one.page.eval_on_selector_all(
            ".frame", "(all) => all.map((f) => f.getBoundingClientRect().toJSON())"
        )
        assert boxes[0]["top"] == boxes[1]["top"] and boxes[0]["width"] == boxes[1]["width"] > width * 0.4
        if touch:
            targets = one.page.eval_on_selector_all(
                "button",
                "(all) => all.filter((b) => b.checkVisibility()).map((b) => [b.id, b.offsetHeight])",
            )
            assert [name for name, tall in targets if tall < 44] == []
            bottom = one.page.evaluate(
                "document.querySelector('.verdict.yes').getBoundingClientRect().bottom"
            )
            assert bottom <= height  # in sight without scrolling
            one.page.tap(".verdict.yes")
            one.saved()
            assert len(served.events(one.reviewer)) == 1


def test_a_phones_toolbar_is_two_rows_and_leaves_room_for_the_pictures(browser: Any, served: Served) -> None:
    size = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with watched(browser, served, "phone", **size) as one:
        tall = one.page.evaluate("document.querySelector('.bar').offsetHeight")
        assert tall <= 2 * 44 + 16
        tops = one.page.eval_on_selector_all(
            ".tools button", "(all) => all.filter((b) => b.checkVisibility()).map((b) => b.offsetTop)"
        )
        assert len(tops) == 7 and len(set(tops)) <= 2
        assert one.page.evaluate("document.querySelector('.frame').getBoundingClientRect().top") <= 220
        one.page.tap("#labels")
        one.page.tap("#evidence")
        assert one.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert one.page.get_attribute("#evidence", "aria-pressed") == "true"


def test_labels_and_file_names_are_hidden_until_they_are_asked_for(browser: Any, served: Served) -> None:
    with watched(browser, served, "blind") as one:
        assert one.page.get_attribute("#labels", "aria-pressed") == "false"
        assert not one.page.is_visible("#caption-0") and not one.page.is_visible("#caption-1")
        one.press("l")
        rows = one.page.eval_on_selector_all(
            "#caption-0 dl > div", "(all) => all.map((e) => [...e.children].map((c) => c.innerText))"
        )
        shown = dict(rows)
        assert {"concept", "category", "file", "licence"} <= set(shown)
        assert shown["file"] and not shown["file"].startswith("/")
        one.press("b y")  # they stay for the pairs that follow, not for another visit
        assert one.page.is_visible("#caption-0")
        one.saved()
        one.page.close()
        again = one.open()
        assert not again.is_visible("#caption-0")
        assert again.get_attribute("#stage", "data-back") == "white"
        again.keyboard.press("?")
        assert "labels and file names stay hidden until you ask" in " ".join(one.text("#help").split())


def test_the_first_key_counts_while_the_pictures_still_load(browser: Any, served: Served) -> None:
    context = browser.new_context()
    try:
        page = context.new_page()
        held: list[Any] | None = []
        page.route("**/images/**", lambda route: route.continue_() if held is None else held.append(route))
        page.goto(f"{served.address}/?reviewer=eager")
        page.wait_for_selector(".frame img", state="attached")
        page.keyboard.press("n")
        assert "no counts as soon as they are there" in page.inner_text("#message-text")
        waiting, held = held, None
        for route in waiting:
            route.continue_()
        page.wait_for_selector("#which:text-is('Pair 2')", timeout=15_000)
        page.wait_for_selector("#saved[data-state=saved]")
        assert served.said("eager") == [("verdict", "no")]
        assert page.is_hidden("#message") and page.inner_text("#which") == "Pair 2"
    finally:
        context.close()


@pytest.mark.parametrize("strip", [True, False], ids=["without", "with"])
def test_the_page_works_behind_a_proxy_under_a_path(browser: Any, tmp_path: Path, strip: bool) -> None:
    """The proxy is named, as its address must be: with `--origin`. It takes its path off or leaves it on."""
    folder = build("emoji-pairs", tmp_path / "set", relation="cross_domain", count=8)
    port = free_port()
    with Proxy("/review", port, strip=strip) as proxy:
        inner = Served(folder, "--origin", proxy.address)
        inner.port, inner.address = port, f"http://127.0.0.1:{port}"
        with inner:
            inner.address = proxy.address
            with watched(browser, inner, "ann") as one:
                one.press("y n")
                one.saved()
                assert inner.said("ann") == [("verdict", "yes"), ("verdict", "no")]
                assert all(place.startswith(f"{proxy.address}/images/") for place in one.pair())
                one.press("z")
                one.saved()
                one.page.keyboard.press("?")
                link = one.page.eval_on_selector("#help a", "(a) => a.href")
                assert link == f"{proxy.address}/api/export"


def test_the_page_says_what_to_do_about_a_proxy_that_was_not_named(browser: Any, served: Served) -> None:
    with Proxy("", served.port, strip=False) as proxy:
        context = browser.new_context()
        try:
            page = context.new_page()
            page.goto(f"{proxy.address}/?reviewer=lost")
            page.wait_for_selector("#stage[aria-busy=false] .frame img")
            page.keyboard.press("y")
            page.wait_for_selector("#message:not([hidden])", timeout=15_000)
            assert f"--origin {proxy.address}" in page.inner_text("#message")
            assert served.said("lost") == []
        finally:
            context.close()


def use(one: Watched) -> dict[str, float]:
    """Nodes, listeners and the heap in use after a collection of garbage."""
    session = one.context.new_cdp_session(one.page)
    session.send("HeapProfiler.collectGarbage")
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    found = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    return {name: found[name] for name in ("Nodes", "JSEventListeners", "JSHeapUsedSize")}


def test_memory_stays_flat_over_hundreds_of_pairs(browser: Any, served: Served) -> None:
    with watched(browser, served, "long") as one:
        # The page judges as fast as it can: a key as soon as both pictures are there.
        judge = """(wanted) => new Promise((done) => {
          let n = 0; const stage = document.getElementById('stage');
          const step = () => {
            if (n === wanted) return done(n);
            if (stage.getAttribute('aria-busy') === 'false') {
              n += 1; document.dispatchEvent(new KeyboardEvent('keydown', { key: 'ynu'[n % 3] }));
            }
            setTimeout(step, 0);
          };
          step(); })"""
        one.page.click("#open-queues")
        one.page.click("[data-queue=all]")
        one.ready()
        assert one.page.evaluate(judge, 60) == 60
        one.saved()
        before = use(one)
        assert one.page.evaluate(judge, 240) == 240
        one.saved()
        after = use(one)
        assert len(served.events("long")) == 300
        assert after["Nodes"] <= before["Nodes"] + 100
        assert after["JSEventListeners"] <= before["JSEventListeners"] + 10
        assert (
            after["JSHeapUsedSize"] <= before["JSHeapUsedSize"] + 600_000
        )  # 240 remembered pairs, about 2 kB each
        assert one.page.evaluate("localStorage.length") <= 5
