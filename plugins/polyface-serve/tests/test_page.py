"""The page in a real browser: Chromium without a window, driven as a user would."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from polyface.building import create_detector

pytest.importorskip("fastapi", reason="needs FastAPI: pip install polyface-serve")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
pytest.importorskip("polyface_example", reason="its toy detector finds red squares")

from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

DRIVER = shutil.which("chromedriver")
CHROMIUM = shutil.which("chromium")
if not DRIVER or not CHROMIUM:
    pytest.skip("needs Chromium: apt-get install chromium chromium-driver", allow_module_level=True)

PATIENCE = 60
LIGHTNESS = """
    const parts = (color) => color.match(/[\\d.]+/g).slice(0, 3).map((part) => {
        const share = part / 255;
        return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    const lightness = ([red, green, blue]) => 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    const ground = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return color === "rgba(0, 0, 0, 0)" ? ground(element.parentElement) : color;
    };
"""
"""Of WCAG 2: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""


class Page:
    """What a user sees and does."""

    def __init__(self, driver, service, folder):
        self.driver, self.service, self.folder = driver, service, folder
        driver.get(service.url("/"))
        self.wait(lambda: self.find("#model option"))

    def find(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        (element,) = self.find(selector)
        return element

    def wait(self, until):
        return WebDriverWait(self.driver, PATIENCE, poll_frequency=0.02).until(lambda _: until())

    def upload(self, *paths):
        """Choose files, and wait for what comes of them."""
        self.one("#files").send_keys("\n".join(map(str, paths)))
        self.wait(lambda: self.one("#status").text.endswith("."))
        self.wait(lambda: " in " in self.one("#status").text)

    def line(self, number=0):
        """The JSON beside an image, the last one first."""
        return json.loads(self.find("article pre")[number].text)

    def boxes(self):
        """The rectangles on the last image."""
        rectangles = self.driver.execute_script(
            "return [...document.querySelectorAll('article:first-child .box')].map((box) =>"
            " ['x', 'y', 'width', 'height'].map((name) => Number(box.getAttribute(name))))"
        )
        return [[x, y, round(x + width, 3), round(y + height, 3)] for x, y, width, height in reversed(rectangles)]

    def requests(self):
        """How many images were sent."""
        lines = self.service.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("polyface_images_total"))


@pytest.fixture(scope="module")
def service(running, toy, require):
    require("onnxruntime", "polyface_onnxruntime", "polyface_retinaface")
    photos = create_detector("retinaface-mobilenet025", backend="onnxruntime", timing=True)
    with running({"retinaface": photos, "toy": toy()}) as service:
        yield service


@pytest.fixture(scope="module")
def plain():
    return create_detector("retinaface-mobilenet025", backend="onnxruntime")


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--window-size=1200,900",
        "--disable-dev-shm-usage",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    folder = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    driver = webdriver.Chrome(options, Service(DRIVER))
    driver.folder = folder
    yield driver
    driver.quit()


@pytest.fixture
def complaints():
    """What Chromium's console may say in a test."""
    return []


@pytest.fixture
def page(driver, service, complaints):
    driver.get_log("browser")
    yield Page(driver, service, driver.folder)
    said = [entry["message"] for entry in driver.get_log("browser")]
    assert [text for text in said if not any(known in text for known in complaints)] == []


@pytest.fixture
def photo(pytestconfig):
    return lambda name: pytestconfig.rootpath / "examples" / f"{name}.jpg"


def test_faces_of_a_photo_are_drawn_over_it(page, plain, photo):
    faces = plain.detect(photo("collage")).to_dicts()
    page.upload(photo("collage"))
    assert page.one("#status").text == "17 faces in 1 image."
    assert page.boxes() == [pytest.approx(face["box"], abs=0.02) for face in faces]
    assert len(page.find("article .mark")) == 5 * 17
    labels = [label.text for label in page.find("article svg text")]
    assert sorted(labels) == sorted(f"{face['score']:.2f}" for face in faces)
    assert page.line()["image"] == "collage.jpg"
    assert [face["box"] for face in page.line()["faces"]] == [pytest.approx(face["box"], abs=0.02) for face in faces]
    assert page.one("article figcaption").text == "17 faces, 1280x960 pixels"
    image, drawing = page.one("article img"), page.one("article svg")
    assert drawing.rect == image.rect


def test_scores_can_be_read_on_a_telephone(page, photo):
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.upload(photo("astronaut"))
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.wait(lambda: page.one("article svg").rect["width"] < 360)
        page.wait(lambda: page.one("article svg text").rect["height"] > 11)
        assert page.driver.execute_script("return document.documentElement.scrollWidth") == 360
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_slider_hides_faces_without_a_request(page, plain, photo):
    faces = plain.detect(photo("collage")).to_dicts()
    page.upload(photo("collage"))
    before = page.requests()
    slider = page.one("#threshold")
    assert slider.get_attribute("min") == "0.5"
    slider.send_keys(Keys.END, *[Keys.ARROW_LEFT] * 5)
    assert page.one("#least").text == "0.95"
    certain = [face for face in faces if face["score"] >= 0.95]
    assert 0 < len(certain) < 17
    assert len(page.boxes()) == len(page.line()["faces"]) == len(certain)
    slider.send_keys(Keys.HOME)
    assert len(page.boxes()) == 17
    assert page.requests() == before


def test_a_text_is_said_to_be_no_image_and_the_next_is_looked_at(page, photo, tmp_path, complaints):
    complaints.append("status of 415")  # what Chromium says of every such answer
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    page.upload(text, photo("astronaut"))
    alert = page.one("[role=alert]")
    assert alert.text == (
        "notes.txt: The file of 8 bytes is not an image in a format that is read. · its 8 bytes do not begin as an "
        "image does"
    )
    assert page.one("#status").text == "1 face in 1 image."


def test_files_can_be_dropped_anywhere(page):
    page.driver.execute_script("""
        const canvas = document.createElement("canvas");
        canvas.width = 64; canvas.height = 48;
        canvas.toBlob((blob) => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([blob], "dropped.png"));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        });
    """)
    page.wait(lambda: page.find("article h2"))
    assert page.one("article h2").text == "dropped.png"
    assert page.one("#status").text == "0 faces in 1 image."


def test_the_chosen_model_is_asked(page, square, tmp_path):
    image = tmp_path / "square.png"
    image.write_bytes(square())
    page.upload(image)
    assert page.boxes() == []
    Select(page.one("#model")).select_by_visible_text("toy")
    assert page.one("#threshold").get_attribute("min") == "0.6"
    page.upload(image)
    assert page.boxes() == [[16, 8, 24, 16]]


def test_the_image_without_the_faces_that_are_seen_is_downloaded(page, photo):
    page.upload(photo("collage"))
    page.one("#threshold").send_keys(Keys.END, *[Keys.ARROW_LEFT] * 5)
    seen = len(page.boxes())
    page.one(".anonymize").click()
    file = page.folder / "collage-anonymized.jpg"
    page.wait(file.exists)
    wanted = page.service.post("/v1/anonymize?score_threshold=0.95", photo("collage").read_bytes(), "image/jpeg")
    page.wait(lambda: file.stat().st_size == len(wanted.content))
    assert file.read_bytes() == wanted.content
    assert page.one("#status").text == f"collage-anonymized.jpg has {seen} faces covered."
    assert wanted.headers["Polyface-Faces"] == str(seen)


def test_an_image_of_a_stricter_model_is_downloaded_after_another_was_chosen(page, square, tmp_path):
    image = tmp_path / "strict.png"
    image.write_bytes(square())
    Select(page.one("#model")).select_by_visible_text("toy")
    page.upload(image)
    Select(page.one("#model")).select_by_visible_text("retinaface")
    assert page.one("#threshold").get_attribute("value") == "0.5"  # toy's least is 0.6
    page.one(".anonymize").click()
    page.wait(lambda: page.one("#status").text == "strict-anonymized.png has 1 face covered.")


def test_the_camera_gives_pictures(page):
    page.one("#camera").click()
    page.wait(lambda: page.one("#take").is_displayed())
    assert page.one("#camera").get_attribute("aria-expanded") == "true"
    page.one("#take").click()
    page.wait(lambda: page.find("article h2"))
    assert page.line()["image"] == "camera-1.jpg"
    assert page.line()["width"] > 0
    page.one("#camera").click()
    assert not page.one("#take").is_displayed()


def test_the_keyboard_reaches_everything_in_order_and_each_says_what_it_is(page, photo):
    page.upload(photo("astronaut"))
    names = []
    page.driver.execute_script("document.activeElement.blur()")
    for _ in range(7):
        webdriver.ActionChains(page.driver).send_keys(Keys.TAB).perform()
        names.append(page.driver.switch_to.active_element.accessible_name)
    assert names == [
        "Choose images, or drop them anywhere on this page",
        "Use the camera",
        "Model",
        "Least score:",
        "Download astronaut.jpg without the faces",
        "JSON",
        "JSON of astronaut.jpg",
    ]
    drawing = page.one("article svg")
    assert (drawing.aria_role, drawing.accessible_name) == ("image", "Face 1: score 1.00, from 178,57 to 273,177")
    assert (page.one("#status").aria_role, page.one("#errors").aria_role) == ("status", "alert")


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_it_is_light_or_dark_as_the_reader_wants_and_can_be_read(page, photo, scheme, dark):
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    page.upload(photo("astronaut"))
    ground = page.driver.execute_script(LIGHTNESS + "return lightness(parts(ground(document.body)))")
    assert (ground < 0.1) is dark
    contrasts = page.driver.execute_script(
        LIGHTNESS
        + """
        return [...document.querySelectorAll("h1, header p, label, button, h2, figcaption, summary, pre, #status")]
            .filter((element) => element.offsetParent)
            .map((element) => {
                const [one, other] = [getComputedStyle(element).color, ground(element)].map((c) => lightness(parts(c)));
                return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
            });
        """
    )
    assert len(contrasts) > 10
    assert min(contrasts) >= 4.5  # WCAG's AA


def test_nothing_is_loaded_from_elsewhere(page, photo):
    page.upload(photo("astronaut"))
    loaded = page.driver.execute_script("return performance.getEntriesByType('resource').map(({ name }) => name)")
    assert {Path(name).name.partition("?")[0] for name in loaded if name.startswith(page.service.url("/"))} >= {
        "page.css",
        "page.js",
        "models",
        "detect",
    }
    assert [name for name in loaded if not name.startswith((page.service.url("/"), "data:", "blob:"))] == []


def test_a_server_with_a_token_asks_for_it(driver, running, toy, square, tmp_path):
    image = tmp_path / "square.png"
    image.write_bytes(square())
    with running({"toy": toy()}, token="a-token-of-letters") as service:  # noqa: S106
        driver.get(service.url("/"))
        wait = WebDriverWait(driver, PATIENCE, poll_frequency=0.02)
        field = wait.until(
            lambda _: next(filter(lambda one: one.is_displayed(), driver.find_elements(By.ID, "token")), 0)
        )
        field.send_keys("a-token-of-letters", Keys.ENTER)
        wait.until(lambda _: driver.find_elements(By.CSS_SELECTOR, "#model option"))
        driver.find_element(By.ID, "files").send_keys(str(image))
        wait.until(lambda _: driver.find_elements(By.CSS_SELECTOR, "article .box"))
        driver.get("about:blank")
