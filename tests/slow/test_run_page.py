"""`make loop`: a page of the documentation is run as it is read."""

import subprocess
import sys

from helpers.places import ROOT

TOOL = ROOT / "tools" / "run_page.py"
PAGE = """
```python
import modelkit as mk
number = 6 * 7
```

```text
something else
```

```python
print(number)
```

```console
$ modelkit --version
modelkit ...
```
"""


def run(page):
    return subprocess.run(
        [sys.executable, TOOL, page], capture_output=True, check=False, text=True, timeout=280
    )


def test_the_blocks_of_a_page_are_run_one_after_another(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("$ modelkit --version", "$ modelkit registry here list"))
    done = run(page)
    assert done.returncode == 0
    assert done.stdout == "42\n\n$ modelkit registry here list\n"
    assert "no registry" in done.stderr


def test_a_block_that_fails_ends_it(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("print(number)", "print(numbers)"))
    assert run(page).returncode == 1
