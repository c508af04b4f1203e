"""What tests do with a page in a browser."""

from pathlib import Path


def look(browser, page: Path, width: int, scheme: str) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())


def find(browser, selector: str):
    return browser.find_element("css selector", selector)


def over(browser, tensor: str):
    """A chain of actions with the pointer on the first residency of a tensor."""
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = find(browser, "#map")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    x, y = browser.execute_script(
        "const [x, y, w, h] = rectangle(stays.find((s) => s.tensor.name === arguments[0]));"
        "const r = document.getElementById('map').getBoundingClientRect();"
        "return [x + w / 2 - r.width / 2, y + h / 2 - r.height / 2]",
        tensor,
    )
    return ActionChains(browser).move_to_element_with_offset(canvas, round(x), round(y))


def ink(browser) -> int:
    """How many colours the map shows."""
    return browser.execute_script(
        "const d = pen.getImageData(0, 0, canvas.width, canvas.height).data, seen = new Set();"
        "for (let i = 0; i < d.length; i += 4) if (d[i + 3] === 255) seen.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);"
        "return seen.size"
    )
