"""The images of serve.md: the page of polyface serve in Chromium, in light and in dark.

    python docs/guides/serve.py

Needs polyface-serve, RetinaFace, ONNX Runtime, selenium, and Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"


def take(address: str, scheme: str, example: str, presses: int, size: tuple[int, int]) -> Image.Image:
    """Return the page with the faces of an example, the slider moved so many steps."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={size[0]},{size[1]}"):
        options.add_argument(argument)
    with webdriver.Chrome(options, Service(shutil.which("chromedriver"))) as driver:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        driver.get(address)
        wait = WebDriverWait(driver, 60)
        wait.until(lambda _: driver.find_elements(By.CSS_SELECTOR, "#model option"))
        driver.find_element(By.ID, "files").send_keys(str(EXAMPLES / f"{example}.jpg"))
        wait.until(lambda _: driver.find_elements(By.CSS_SELECTOR, "article .box"))
        wait.until(lambda _: driver.execute_script("return document.querySelector('article img').complete"))
        driver.find_element(By.ID, "threshold").send_keys(*[Keys.ARROW_RIGHT] * presses)
        return Image.open(io.BytesIO(driver.get_screenshot_as_png()))


def main() -> None:
    command = [sys.executable, "-m", "polyface", "serve", "--port", "0", "--backend", "onnxruntime"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:  # noqa: S603 - it is polyface
        (address,) = re.findall(r"http://\S+", next(iter(server.stderr or ())))
        for scheme, example, presses in (("light", "astronaut", 0), ("dark", "collage", 40)):
            image = take(address, scheme, example, presses, (920, 760)).convert("RGB")
            image.save(HERE / f"serve-{scheme}.png", optimize=True)
        server.terminate()


if __name__ == "__main__":
    main()
