"""A headless Chromium for the tests of pages: a page of playwright, and what the browser complains of."""

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """One page at a time; opening the next one forgets everything that the last one kept."""

    def __init__(self, chromium):
        from playwright.sync_api import sync_playwright  # so that other tests run without it

        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        self.page, self._complaints = None, []

    def open(self, path, width=1400, scripts=True, before=""):
        """Open a file in a profile of its own; `before` is a script that runs before those of the page."""
        if self.page:
            self.page.context.close()
        context = self._browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=scripts)
        context.add_init_script(before)
        self.page, self._complaints = context.new_page(), []
        self.page.on("console", lambda message: self._complaints.append(message.text))
        self.page.on("pageerror", lambda error: self._complaints.append(str(error)))
        self.page.goto(path.as_uri())
        return self.page

    def evaluate(self, expression):
        return self.page.evaluate(expression)

    def press(self, key):
        self.page.keyboard.press(key)

    def call(self, method, **params):
        """Call the DevTools protocol."""
        session = self.page.context.new_cdp_session(self.page)
        answer = session.send(method, params)
        session.detach()
        return answer

    def complaints(self):
        self.evaluate("0")  # what was said before this has arrived
        return self._complaints

    def close(self):
        self._browser.close()
        self._playwright.stop()


def find_chromium():
    return next(filter(None, map(shutil.which, NAMES)), None)
