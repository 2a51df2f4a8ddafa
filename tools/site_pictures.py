"""Pictures of pages that `make docs` built, at two widths, light and dark: site_pictures.py FOLDER PAGE ..."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SITE = Path(__file__).parents[1] / "build" / "site"
WIDTHS = {"desk": 1366, "phone": 390}


def main(folder: Path, pages: list[str]) -> None:
    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, width in WIDTHS.items():
            for scheme in ("light", "dark"):
                size = {"width": width, "height": 850}
                context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
                page = context.new_page()
                for where in pages:
                    path, _, query = where.partition("?")
                    page.goto(f"{(SITE / f'{path}.html').as_uri()}?{query}")
                    page.wait_for_timeout(500)
                    picture = f"{path.replace('/', '_')}-{name}-{scheme}.png"
                    page.screenshot(path=folder / picture)
                context.close()
        browser.close()


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    main(Path(sys.argv[1]), sys.argv[2:] or ["index"])
