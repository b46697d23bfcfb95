#!/usr/bin/python3
"""The report in a real browser: headless Chromium opens reports, filters and
switches what they show, and reads it back.

  browser_test.py PROGRAM SOURCE

makes its reports with PROGRAM from the records in SOURCE/tests/data. Needs
Debian's python3-selenium and chromium-driver; SACCADE_NO_BROWSER=1 skips it.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

if os.environ.get("SACCADE_NO_BROWSER") == "1":
    print("skipped: SACCADE_NO_BROWSER=1")
    sys.exit(0)
try:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.select import Select
    from selenium.webdriver.support.wait import WebDriverWait
except ImportError:
    sys.exit("browser_test.py: no selenium: apt-get install python3-selenium, "
             "or set SACCADE_NO_BROWSER=1 to do without a browser")
DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
if DRIVER is None or BROWSER is None:
    sys.exit("browser_test.py: no chromium: apt-get install chromium "
             "chromium-driver, or set SACCADE_NO_BROWSER=1 to do without")

PROGRAM = sys.argv[1] if len(sys.argv) > 2 else ""
SOURCE = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else ".")

# What names and notes may try; each sets `pwned` where it comes to run.
PAYLOADS = [
    "<script>pwned=1</script>",
    "</script><script>pwned=2</script>",
    "<img src=x onerror=pwned=3>",
    "\" onmouseover=\"pwned=4\" autofocus onfocus=\"pwned=4",
    "' onclick='pwned=5",
    "{{{policy}}}{{>figure_template}}{{#sections}}",
    "javascript:pwned=6",
    "<a href=javascript:pwned=7>here</a>",
    "<svg/onload=pwned=8>",
    "--><iframe srcdoc='<script>parent.pwned=9</script>'>",
    "</title></style><style>*{display:none}</style>",
    "\u202eesrever\u2066\u200f",
    "]]><!--",
    "${pwned=10}`+pwned+`",
    "\\u003cscript\\u003epwned=11",
    "__proto__",
]
# Texts of records that are one of a few words, or what others refer to.
WORDS = {"kind", "status", "pass", "dtype", "mask", "target", "peak",
         "protocol", "switch", "verdict", "started", "match", "metric",
         "subject", "picture"}


def records():
    with open(SOURCE / "tests/data/run_small.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def two_storages():
    """The small run, and its forward passes in bf16 at twice the speed."""
    run = records()
    extra = []
    for record in run:
        if record["kind"] != "speed" or record["pass"] != "forward":
            continue
        copy = dict(record, dtype="bf16")
        for name in ("median_ns", "low_ns", "high_ns"):
            if name in copy:
                copy[name] /= 2
        copy.pop("ns", None)
        extra.append(copy)
    return run[:-1] + extra + run[-1:]


def hostile():
    """The small run with every payload at the end of some of its texts."""
    names = {}
    run = records()
    for number, record in enumerate(run):
        for name, value in record.items():
            if name in WORDS or not isinstance(value, str):
                continue
            # A name stays one name wherever it stands.
            key = value.split(":")[0] if name == "variant" else (number, name)
            payload = names.setdefault(key, PAYLOADS[len(names) % len(PAYLOADS)])
            record[name] = value + payload
    run[0]["note"] = " ".join(PAYLOADS)
    return run


def write_report(folder, name, run, *options):
    out = folder / name
    out.mkdir()
    path = out / "run.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in run), "utf-8")
    subprocess.run([PROGRAM, "report", str(path), *options], check=True,
                   stdout=subprocess.DEVNULL)
    return (out / "report.html").as_uri()


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(cls.folder.name)
        cls.small = write_report(folder, "small", two_storages())
        cls.hostile = write_report(folder, "hostile", hostile(),
                                   "--note", " ".join(PAYLOADS))
        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu",
                         "--disable-dev-shm-usage",
                         "--window-size=1280,1000",
                         f"--user-data-dir={folder / 'browser'}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs",
                               {"browser": "ALL", "performance": "ALL"})
        cls.browser = webdriver.Chrome(service=Service(DRIVER), options=options)
        cls.browser.set_page_load_timeout(60)

    @classmethod
    def tearDownClass(cls):
        cls.browser.quit()
        cls.folder.cleanup()

    def setUp(self):
        self.emulate(1280, "light")
        self.drain()

    def tearDown(self):
        self.assertEqual([entry["message"] for entry in
                          self.browser.get_log("browser")], [])
        for url in self.requests():
            self.assertTrue(url.startswith(("file:", "data:")), url)

    # ---- The browser.

    def drain(self):
        self.browser.get("about:blank")
        self.browser.get_log("browser")
        self.browser.get_log("performance")

    def requests(self):
        urls = []
        for entry in self.browser.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                urls.append(message["params"]["request"]["url"])
        return [url for url in urls if not url.startswith("about:")]

    def emulate(self, width, scheme):
        self.browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1,
             "mobile": width < 500})
        self.browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [
                {"name": "prefers-color-scheme", "value": scheme},
                # Scrolling is done at once.
                {"name": "prefers-reduced-motion", "value": "reduce"}]})

    def run_script(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def shown(self, selector):
        return [node for node in
                self.browser.find_elements(By.CSS_SELECTOR, selector)
                if node.is_displayed()]

    def choose(self, name, value):
        Select(self.find(f'#filters select[data-filter="{name}"]')
               ).select_by_value(value)

    def wait_for_address(self, part):
        """The browser says a page's new address a moment after the page."""
        WebDriverWait(self.browser, 10).until(
            lambda browser: part in browser.current_url, part)

    def lines(self, figure):
        """Points of each visible line, by its label."""
        return self.run_script("""
            const chart = Chart.getChart(
                document.querySelector("#" + arguments[0] + " canvas"));
            const lines = {};
            chart.data.datasets.forEach((set, i) => {
              if (set.band || set.bare || !chart.isDatasetVisible(i)) return;
              lines[set.label] = set.data.map((p) => [p.x, p.y]);
            });
            return lines;""", figure)

    # ---- What a reader does.

    def test_the_first_screen_says_which_and_at_what_cost(self):
        self.browser.get(self.small)
        table = self.find(".answers > .answer table")
        self.assertLess(table.rect["y"] + table.rect["height"], 900)
        rows = [row.text for row in table.find_elements(By.TAG_NAME, "tr")]
        self.assertIn("time, n = 4k", rows[0])
        self.assertTrue(rows[1].startswith("time linear.elu 1.83 ms"), rows[1])
        self.assertEqual(len(self.shown(".answers > .answer")), 1)

    def test_a_legend_switches_a_line(self):
        self.browser.get(self.small)
        before = self.lines("time-1")
        button = self.find("#time-1 .legend button")
        name = button.text.split("\n")[0].split(" ")[0]
        self.assertTrue(any(label.startswith(name) for label in before))
        self.run_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
        after = self.lines("time-1")
        self.assertEqual(button.get_attribute("aria-pressed"), "false")
        self.assertEqual(len(after), len(before) - 1)
        self.wait_for_address("off.time-1=")
        # Who follows the link sees the same.
        url = self.browser.current_url
        self.browser.get("about:blank")
        self.browser.get(url)
        self.assertEqual(self.lines("time-1"), after)

    def test_filters_act_on_figures_and_tables(self):
        self.browser.get(self.small)
        all_figures = len(self.shown("figure"))
        self.choose("pass", "forward")
        self.choose("dtype", "bf16")
        self.choose("to", "1024")
        for part in ("pass=forward", "dtype=bf16", "to=1024"):
            self.wait_for_address(part)
        self.assertLess(len(self.shown("figure")), all_figures)
        for figure in self.shown("figure[data-pass]"):
            self.assertEqual(figure.get_attribute("data-pass"), "forward")
        figures = self.shown("#time figure")
        self.assertEqual(len(figures), 1)
        points = self.lines(figures[0].get_attribute("id"))
        self.assertTrue(points)
        for line in points.values():
            self.assertLessEqual(max(x for x, _ in line), 1024)
        # The verdict is that of the filter.
        answers = self.shown(".answers > .answer")
        self.assertEqual(len(answers), 1)
        self.assertIn("n = 1k", answers[0].text)
        self.assertIn("bf16", answers[0].text)
        # Rows and columns of tables too.
        for row in self.run_script("""
            return Array.from(document.querySelectorAll(
                "#time details.long tbody tr:not([hidden])"),
                (row) => Object.assign({}, row.dataset));"""):
            self.assertEqual(row["pass"], "forward")
            self.assertLessEqual(int(row["length"]), 1024)
        heads = self.run_script("""
            return Array.from(arguments[0].querySelectorAll(
                "thead th[data-length]:not([hidden])"),
                (th) => +th.dataset.length);""", figures[0])
        self.assertEqual(heads, [256, 512, 1024])
        # A link to it, and the way back.
        url = self.browser.current_url
        self.browser.get("about:blank")
        self.browser.get(url)
        self.assertEqual(len(self.shown("#time figure")), 1)
        self.find("#filters button").click()
        self.assertEqual(len(self.shown("figure")), all_figures)

    def test_going_to_a_section_keeps_the_filters(self):
        self.browser.get(self.small + "#pass=decode")
        self.find('nav a[href="#memory"]').click()
        self.wait_for_address("#memory&pass=decode")
        for figure in self.shown("figure[data-pass]"):
            self.assertEqual(figure.get_attribute("data-pass"), "decode")

    def tooltip(self, figure):
        return self.run_script("""
            const tip = Chart.getChart(document.querySelector(
                "#" + arguments[0] + " canvas")).tooltip;
            return tip.opacity === 0 ? null
              : tip.title.concat(tip.body.flatMap((b) => b.lines)).join("|");
            """, figure)

    def test_values_are_read_by_mouse_and_by_keyboard(self):
        self.browser.get(self.small)
        canvas = self.find("#time-1 canvas")
        self.run_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
        place = self.run_script("""
            const chart = Chart.getChart(arguments[0]);
            const set = chart.data.datasets.findIndex(
                (s) => !s.band && s.label === "linear.elu");
            const point = chart.getDatasetMeta(set).data[4];
            return [point.x - chart.width / 2, point.y - chart.height / 2];
            """, canvas)
        ActionChains(self.browser).move_to_element_with_offset(
            canvas, round(place[0]), round(place[1])).perform()
        self.assertRegex(self.tooltip("time-1"),
                         r"tokens: 4k\|.*linear\.elu: 1\.83 ms \(1\.8. ms to ")
        canvas.send_keys(Keys.ARROW_RIGHT)
        first = self.tooltip("time-1")
        self.assertIn("tokens: 256|softmax.naive: ", first)
        canvas.send_keys(Keys.ARROW_RIGHT)
        self.assertIn("tokens: 512|softmax.naive: ", self.tooltip("time-1"))

    def test_an_axis_is_switched_to_linear(self):
        self.browser.get(self.small)
        button = next(b for b in self.browser.find_elements(
            By.CSS_SELECTOR, "#time-1 .legend button") if b.text == "log y")
        self.run_script("arguments[0].scrollIntoView({block: 'center'})", button)
        kind = """return Chart.getChart(document.querySelector(
            "#time-1 canvas")).scales.y.type"""
        self.assertEqual(self.run_script(kind), "logarithmic")
        button.click()
        self.assertEqual(self.run_script(kind), "linear")
        self.wait_for_address("linear.time-1=y")

    def test_dominated_variants_are_faded_and_named(self):
        self.browser.get(self.small)
        labels = self.lines("quality-time").keys()
        rows = self.run_script("""
            return Array.from(document.querySelectorAll(
                "#quality-time tbody tr"), (row) => Array.from(row.cells,
                (cell) => cell.textContent));""")
        self.assertTrue(any(row[4] == "none" for row in rows))
        faded = [row for row in rows if row[4] != "none"]
        self.assertEqual(sum("(dominated)" in label for label in labels),
                         len(faded))
        self.assertGreater(len(faded), 0)

    def test_a_command_is_copied(self):
        self.browser.get(self.small)
        fold = self.find("#time-1 details.repeat")
        self.run_script("arguments[0].scrollIntoView({block: 'center'})", fold)
        fold.find_element(By.TAG_NAME, "summary").click()
        command = fold.find_element(By.TAG_NAME, "pre").text
        self.assertTrue(command.startswith("saccade compare --profile quick "
                                           "--measure speed --only "), command)
        self.assertIn("--pass forward -n 256,512,1024,", command)
        button = fold.find_element(By.TAG_NAME, "button")
        button.click()
        self.assertIn(button.text, ("Copied", "Selected"))
        self.assertEqual(self.run_script("return getSelection().toString()"),
                         command)

    # ---- On every screen, and without scripts.

    def test_it_fits_screens_of_three_widths_in_light_and_dark(self):
        self.browser.get(self.small)
        papers = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}
        for width in (1280, 800, 400):
            for scheme, paper in papers.items():
                with self.subTest(width=width, scheme=scheme):
                    self.emulate(width, scheme)
                    wide, ground = self.run_script(
                        "return [document.documentElement.scrollWidth, "
                        "getComputedStyle(document.body).backgroundColor]")
                    self.assertLessEqual(wide, width)
                    self.assertEqual(ground, paper)
                    canvas = self.find("#time-1 canvas")
                    self.assertGreater(canvas.rect["width"], 0.7 * width / 2)
                    self.assertGreater(canvas.rect["height"], 200)

    def test_without_scripts_every_number_is_there(self):
        self.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled",
                                     {"value": True})
        try:
            self.browser.get(self.small)
            self.assertFalse(self.find("#filters").is_displayed())
            self.assertTrue(self.find("noscript p").is_displayed())
            self.assertIn("1.83 ms", self.find(".answer table").text)
            self.assertIn("linear.elu", self.find("#time-1 details table").text)
            self.assertEqual(self.shown("#time-1 .plot"), [])
        finally:
            self.browser.execute_cdp_cmd(
                "Emulation.setScriptExecutionDisabled", {"value": False})

    def test_names_and_notes_stay_inert(self):
        elements = """
            return Array.from(new Set(Array.from(
                document.querySelectorAll("*"), (node) => node.tagName))).sort()
            """
        self.browser.get(self.small)
        honest = self.run_script(elements)
        self.browser.get(self.hostile)
        self.assertLessEqual(set(self.run_script(elements)), set(honest))
        # Touch what could be touched.
        for button in self.shown(".legend button")[:12]:
            self.run_script("arguments[0].click(); arguments[0].focus();",
                            button)
        self.choose("pass", "forward")
        canvas = self.find("#time-1 canvas")
        for _ in range(12):
            canvas.send_keys(Keys.ARROW_RIGHT)
        self.browser.get(self.browser.current_url + "&%zz=%zz&off.time-1=%zz")
        self.assertIsNone(self.run_script("return window.pwned ?? null"))
        self.assertEqual(self.browser.title, "Attention variants, compared")
        text = self.find("header").text
        for payload in ("<script>pwned=1</script>", "{{{policy}}}",
                        "javascript:pwned=6"):
            self.assertIn(payload, text)
        self.assertNotIn("\u202e", self.browser.page_source)
        self.assertEqual(self.run_script(
            "return document.querySelectorAll('[href^=javascript]').length"), 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
