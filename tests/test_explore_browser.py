"""The explorer in JupyterLab in headless Chromium, with a slider moved by keyboard."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (Debian: apt-get install chromium)"),
    pytest.mark.skipif(not DRIVER, reason="chromedriver is not installed (Debian: apt-get install chromium-driver)"),
]

CELL = """\
import migkit

migkit.explore(
    migkit.Scenario(
        guest=migkit.Guest(
            ram="16 GiB", regions=[migkit.Region(size="320 MiB", start="1 GiB", write_rate="2 GB/s")]
        ),
        devices=[migkit.Vfio(initial_bytes="16 MiB", stop_copy_bytes="1 MiB")],
        link=migkit.Link(bandwidth="10 Gbit/s"),
        migration=migkit.Migration(max_bandwidth=0, switchover_ack=True, return_path=True),
    )
)"""
TIMEOUT_S = 60  # of each wait; the first may include compiling the kernels
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1440,1500",
)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab over a folder with one notebook."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    cell = {"cell_type": "code", "id": "explore", "source": CELL, "metadata": {}, "outputs": []}
    cell["execution_count"] = None
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "explore.ipynb").write_text(json.dumps(notebook))
    port, token = free_port(), secrets.token_hex(16)
    own = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    own["JUPYTERLAB_SETTINGS_DIR"] = str(tmp_path / "settings")
    quiet = tmp_path / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')  # no requests to other machines
    environment = {**os.environ, **own, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path / "ipython")}
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ip=127.0.0.1", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    command += [f"--ServerApp.root_dir={folder}", f"--LabApp.workspaces_dir={tmp_path / 'workspaces'}"]
    with (tmp_path / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for_server(f"{address}/api?token={token}", server, tmp_path / "lab.log")
        yield f"{address}/lab/tree/explore.ipynb?token={token}&reset"
    finally:
        server.terminate()
        try:
            server.wait(20)  # it stops its kernels first
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for_server(address, server, log):
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.1)
    pytest.fail(f"JupyterLab did not answer:\n{log.read_text(errors='replace')}")


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.save_screenshot(str(tmp_path / "last.png"))  # of a failure too
        driver.quit()


def test_a_slider_moved_in_jupyterlab_changes_the_picture(lab, browser, tmp_path):
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait

    # While JupyterLab builds its page, elements exist before they can be used, and are replaced.
    wait = WebDriverWait(browser, TIMEOUT_S, poll_frequency=0.05, ignored_exceptions=[WebDriverException])

    def click(css):
        wait.until(lambda driver: driver.find_element(By.CSS_SELECTOR, css).click() is None)

    def images():
        """URLs of both pictures once they are loaded; each new picture is a new blob."""
        return browser.execute_script(
            "return Array.from(document.querySelectorAll('.migkit-explorer img'))"
            ".filter(image => image.complete && image.naturalWidth > 100).map(image => image.src)"
        )

    def map_is_finished():
        wait.until_not(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".migkit-explorer .migkit-unfinished"))

    def sentences():
        return [line.text for line in browser.find_elements(By.CSS_SELECTOR, ".migkit-explorer .migkit-sentence")]

    browser.get(lab)
    click(".jp-Notebook .jp-Cell .cm-content")
    # A cell that is run before the kernel has answered is lost.
    wait.until(lambda driver: driver.find_element(By.CSS_SELECTOR, "[data-status=idle]"))
    ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
    wait.until(lambda _: len(images()) == 2)
    map_is_finished()
    browser.save_screenshot(str(tmp_path / "first.png"))
    assert sentences()[0].startswith("serialized: vfio0's initial data was never sent")
    assert sentences()[1].startswith("unserialized (the scenario's): Completed in ")
    before, first = images(), sentences()

    handle = browser.find_element(By.CSS_SELECTOR, ".migkit-explorer .noUi-handle")
    assert browser.find_element(By.CSS_SELECTOR, ".migkit-explorer .widget-label").text == "dirty rate"
    browser.execute_script(
        "window.loaded = []; document.addEventListener('keydown', () => { window.pressed = performance.now() }, true);"
        "document.querySelectorAll('.migkit-explorer img').forEach("
        "image => image.addEventListener('load', () => window.loaded.push(performance.now() - window.pressed)))"
    )
    handle.send_keys(Keys.ARROW_LEFT)
    wait.until(lambda _: len(images()) == 2 and not set(images()) & set(before))
    wait.until(lambda _: sentences() != first)
    took_ms = browser.execute_script("return window.loaded")

    click(".migkit-explorer button")
    wait.until(lambda _: browser.find_element(By.CSS_SELECTOR, ".migkit-explorer textarea").is_displayed())
    python = browser.find_element(By.CSS_SELECTOR, ".migkit-explorer textarea").get_property("value")
    assert 'write_rate="1.8 GB/s"' in python
    browser.execute_script("document.querySelector('.migkit-explorer textarea').scrollIntoView({block: 'end'})")
    assert browser.save_screenshot(str(tmp_path / "explorer.png"))
    print(f"ms from the key to loaded pictures: {[round(ms) for ms in took_ms]}; {tmp_path / 'explorer.png'}")
